--[[
 Reject jobs without a time limit, and be friendly about it.
--]]

function slurm_job_submit(job_desc, part_list, submit_uid)
	if job_desc.time_limit == slurm.NO_VAL then
		slurm.log_info("slurm_job_submit: job of uid %u without --time rejected", submit_uid)
		slurm.user_msg("You did not specify a time limit.\nPlease use --time, e.g. --time=02:00:00")
		return slurm.ESLURM_INVALID_TIME_LIMIT
	end
	return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
	return slurm.SUCCESS
end

slurm.log_info("initialized")
return slurm.SUCCESS
