#!/bin/bash
#SBATCH --job-name=count
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --mem=100
#SBATCH --time=5
#SBATCH --output=count-%a.out
#
# Counts the phrases of three words in one eighth of Newton's Opticks. Argument:
# the folder with the text. Writes count-N.tsv into the job's directory.
set -euo pipefail
text=$1/part-$SLURM_ARRAY_TASK_ID.txt
words=$(wc -w < "$text")
echo "task $SLURM_ARRAY_TASK_ID of job $SLURM_ARRAY_JOB_ID on $SLURMD_NODENAME: $words words"

LC_ALL=C tr 'A-Z' 'a-z' < "$text" | LC_ALL=C tr -cs 'a-z' '\n' |
	LC_ALL=C awk 'length { if (two != "") n[two " " one " " $0]++; two = one; one = $0 }
		END { for (p in n) print n[p] "\t" p }' > "count-$SLURM_ARRAY_TASK_ID.tsv"
echo "task $SLURM_ARRAY_TASK_ID: $(wc -l < "count-$SLURM_ARRAY_TASK_ID.tsv") different phrases"
