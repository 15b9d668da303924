-- A university's policy: accounts by user, exclusive nodes for wide jobs,
-- nobody but root raises limits afterwards.
log_prefix = 'slurm_job_submit'
accounts = { alice = "physics", bob = "chemistry" }
counter = 0

function starts(s, prefix)
	return string.sub(s, 1, string.len(prefix)) == prefix
end

function slurm_job_submit(job_desc, part_list, submit_uid)
	counter = counter + 1
	slurm.log_debug("%s: request %d, comment %s", log_prefix, counter, tostring(job_desc.comment))

	if submit_uid == 0 and job_desc.user_id == 0 then
		slurm.log_user("%s: root runs no jobs here", log_prefix)
		return slurm.ERROR
	end
	if job_desc.account == nil then
		job_desc.account = accounts[job_desc.user_name]
		if job_desc.account == nil then
			slurm.user_msg("no account for user " .. tostring(job_desc.user_name))
			return slurm.ESLURM_INVALID_ACCOUNT
		end
	end
	-- empty scripts
	if job_desc.script == nil or job_desc.script == '' then
		slurm.log_user("interactive jobs go to the login partition")
		job_desc.partition = "login"
		job_desc.shared = 1
	end
	if job_desc.script ~= nil and string.match(job_desc.script, "mpirun") and job_desc.num_tasks == slurm.NO_VAL then
		slurm.user_msg("mpirun without --ntasks runs one task only")
	end
	if job_desc.min_nodes ~= slurm.NO_VAL and job_desc.min_nodes > 2 then
		job_desc.shared = 0
		job_desc.req_switch = 1
		job_desc.wait4switch = 300
	end
	if job_desc.cpus_per_task == slurm.NO_VAL16 then
		job_desc.cpus_per_task = 1
	end
	if job_desc.min_mem_per_node == nil and job_desc.min_mem_per_cpu == nil then
		job_desc.min_mem_per_cpu = 2000
	end
	if job_desc.features ~= nil and not starts(job_desc.features, "ib&") then
		job_desc.features = "ib&" .. job_desc.features
	end
	if job_desc.nice == slurm.NO_VAL then
		job_desc.nice = slurm.NICE_OFFSET + 100
	end
	if bit32.band(job_desc.mail_type, slurm.MAIL_JOB_FAIL) == 0 then
		job_desc.mail_type = bit32.bor(job_desc.mail_type, slurm.MAIL_JOB_FAIL)
	end
	job_desc.requeue = 0
	job_desc.comment = string.format("%s/%s", job_desc.account, job_desc.name or "?")
	job_desc.no_such_field = 1
	return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
	if modify_uid == 0 then
		return slurm.SUCCESS
	end
	if job_desc.time_limit ~= slurm.NO_VAL and job_desc.time_limit > job_rec.time_limit then
		slurm.log_user("job %d: the limit of %d minutes can only be lowered", job_rec.job_id, job_rec.time_limit)
		return slurm.ESLURM_ACCESS_DENIED
	end
	if job_desc.account ~= nil and job_desc.account ~= job_rec.account then
		slurm.log_user("ask the helpdesk to move jobs from %s to %s", job_rec.account, job_desc.account)
		return slurm.ERROR
	end
	if job_desc.partition ~= nil and part_list[job_desc.partition] ~= nil and part_list[job_desc.partition].priority_tier > 10 then
		job_desc.nice = slurm.NICE_OFFSET + 1000
		job_desc.comment = "moved to " .. job_desc.partition
	end
	return slurm.SUCCESS
end

return slurm.SUCCESS
