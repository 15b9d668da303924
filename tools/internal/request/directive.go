package request

import (
	"fmt"
	"strings"

	"github.com/sluice-hpc/sluice/tools/internal/getopt"
)

// directives applies the #SBATCH lines of a script: those before the first
// line that is neither empty nor a comment.
func (r *Request) directives(script []byte) error {
	number := 0
	for line := range strings.Lines(string(script)) {
		number++
		line = strings.TrimRight(line, "\n")
		rest, ok := strings.CutPrefix(line, "#SBATCH")
		switch {
		case ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t'):
			if err := r.directive(rest, number); err != nil {
				return err
			}
		case strings.TrimSpace(line) != "" && line[0] != '#':
			return nil
		}
	}
	return nil
}

func (r *Request) directive(rest string, number int) error {
	args, err := r.split(rest, number)
	if err != nil {
		return err
	}
	if len(args) == 1 && (args[0] == "hetjob" || args[0] == "packjob") {
		return r.noHetJob([]string{":"})
	}
	given, operands, err := getopt.Parse(args, table(Sbatch), true)
	if err != nil {
		return syntax(Sbatch, err)
	}
	if len(operands) > 0 {
		return &Mistake{Exit: exitSyntax, Lines: []string{"Invalid directive found in batch script: " + operands[0]},
			Hint: fmt.Sprintf("line %d: after #SBATCH come options", number)}
	}
	return r.apply(given, FromScript)
}

// split cuts a directive into words: blanks separate, quotes and backslashes
// keep together, # at the start of a word ends the line.
func (r *Request) split(s string, number int) ([]string, error) {
	var args []string
	for i := 0; ; {
		for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
			i++
		}
		if i == len(s) || s[i] == '#' {
			return args, nil
		}
		start := i
		var word strings.Builder
		for i < len(s) && s[i] != ' ' && s[i] != '\t' {
			switch c := s[i]; c {
			case '\'', '"':
				end := strings.IndexByte(s[i+1:], c)
				if end < 0 {
					name := "stdin"
					if len(r.Args) > 0 {
						name = r.Args[0]
					}
					return nil, &Mistake{Exit: exitMistake, Fatal: true, Lines: []string{
						fmt.Sprintf("%s: line %d: Unmatched `%c` in [%s]", name, number, c, s[max(start-1, 0):])}}
				}
				word.WriteString(s[i+1 : i+1+end])
				i += end + 2
			case '\\':
				i++
				if i < len(s) {
					word.WriteByte(s[i])
					i++
				}
			default:
				word.WriteByte(c)
				i++
			}
		}
		args = append(args, word.String())
	}
}
