#!/bin/bash
#SBATCH --job-name=merge
#SBATCH --ntasks=1
#SBATCH --mem=100
#SBATCH --time=5
#SBATCH --output=top20.txt
#
# Adds up what the tasks of count.sh found and prints the twenty most frequent
# phrases. Starts when all of them have ended well.
set -euo pipefail
LC_ALL=C awk -F '\t' '{ n[$2] += $1 } END { for (p in n) print n[p] "\t" p }' count-[1-8].tsv |
	LC_ALL=C sort -t $'\t' -k1,1nr -k2 | head -20 || test $? = 141
