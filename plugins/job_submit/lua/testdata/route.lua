-- Route jobs to partitions by what they ask for; the oldest trick of all sites.
local GPU_PART = "gpu"
local FAT_MEM  = 64 * 1024     -- MiB
local SHORT    = 60            -- minutes

local function default_partition(part_list)
	for name, part in pairs(part_list) do
		if part.flag_default == 1 then
			return name
		end
	end
	return nil
end

local function wants_gpu(job_desc)
	local all = { job_desc.gres, job_desc.tres_per_node, job_desc.tres_per_job, job_desc.tres_per_task, job_desc.tres_per_socket }
	for _, s in pairs(all) do
		if s ~= nil and string.find(s, "gpu") then
			return true
		end
	end
	return false
end

function slurm_job_submit(job_desc, part_list, submit_uid)
	if job_desc.partition ~= nil then
		-- users may ask, but only for what exists and is up
		for p in string.gmatch(job_desc.partition, "[^,]+") do
			if part_list[p] == nil then
				slurm.log_user("partition %s does not exist here", p)
				return slurm.ESLURM_INVALID_PARTITION_NAME
			end
			local max = part_list[p].max_time
			if max ~= slurm.INFINITE and max ~= slurm.NO_VAL and job_desc.time_limit ~= slurm.NO_VAL and job_desc.time_limit > max then
				slurm.log_user("partition %s allows %d minutes, you asked for %d", p, max, job_desc.time_limit)
				return slurm.ESLURM_INVALID_TIME_LIMIT
			end
		end
		return slurm.SUCCESS
	end
	local mem = job_desc.pn_min_memory
	if wants_gpu(job_desc) then
		job_desc.partition = GPU_PART
	elseif mem ~= slurm.NO_VAL64 and mem < slurm.MEM_PER_CPU and mem > FAT_MEM then
		job_desc.partition = "fat"
	elseif job_desc.time_limit ~= slurm.NO_VAL and job_desc.time_limit <= SHORT then
		job_desc.partition = "short,main"
		job_desc.qos = "express"
	else
		job_desc.partition = default_partition(part_list)
	end
	slurm.log_info("slurm_job_submit: uid=%d job %s -> %s", submit_uid, job_desc.name, job_desc.partition)
	return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
	return slurm.SUCCESS
end
return slurm.SUCCESS
