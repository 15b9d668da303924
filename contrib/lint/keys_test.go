package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fields are the keys whose value the code knows by another name.
var fields = map[string]string{
	"SlurmctldHost": "Hosts", "SlurmdLogFile": "SlurmdLog", "SlurmdPidFile": "SlurmdPid", "SlurmdSpoolDir": "SpoolDir",
	"AllowQos": "AllowQOS", "DenyQos": "DenyQOS", "PriorityJobFactor": "PriorityJob",
	"NodeHostname": "Hostname", "NodeAddr": "Addr", "DisableRootJobs": "DisableRoot", "Default": "IsDefault", "MaxNodes": "MaxNodes",
}

// readHere are sections whose values package conf itself turns into others.
var readHere = regexp.MustCompile(`^(NodeSet|DownNodes|global.Include)$|^(NodeName|PartitionName)\.(NodeName|PartitionName|SocketsPerBoard|Feature|Reason|State|Default|SelectTypeParameters)$`)

// shown are rooms that only show or carry values: what is read nowhere else has
// no effect.
var shown = regexp.MustCompile(`^tools/internal/(dump|scontrol|sinfo|nodetext|squeue|sacct|sluice|peertest)/|^sdk/(wire|mirror|proto|python)/|^core/(view|cluster/admin)|^plugins/job_submit/lua/|^contrib/|^conf/[a-z_]+\.go$|_test\.go$|^build/`)

// The column "acts" of conf/keys.tsv is a promise: a key with yes is read by
// something that acts, and one that is read so does not say no.
func TestKeysAct(t *testing.T) {
	// What the code reads: fields of a configuration, fields of anything, texts.
	ofConf, ofAny, texts := map[string]bool{}, map[string]bool{}, map[string]bool{}
	field := regexp.MustCompile(`(\w*\)*)\.([A-Z]\w*)`)
	literal := regexp.MustCompile(`"(\w+)"`)
	for _, name := range files(t) {
		if filepath.Ext(name) != ".go" || shown.MatchString(name) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root(), name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				continue
			}
			for _, m := range field.FindAllStringSubmatch(line, -1) {
				ofAny[m[2]] = true
				switch m[1] {
				case "c", "cfg", "conf", "next", "config()", ")", "Conf()":
					ofConf[m[2]] = true
				}
			}
			for _, m := range literal.FindAllStringSubmatch(line, -1) {
				texts[strings.ToLower(m[1])] = true
			}
		}
	}
	table, err := os.ReadFile(filepath.Join(root(), "conf", "keys.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if f[0] != "slurm.conf" || f[8] != "yes" && f[8] != "no" {
			continue
		}
		section, key := f[1], f[2]
		name := key
		if n := fields[key]; n != "" {
			name = n
		}
		var read bool
		switch {
		case section == "global":
			read = ofConf[name] || texts[strings.ToLower(key)]
		case strings.HasSuffix(section, "Parameters"):
			read = texts[strings.ToLower(key)]
		default:
			read = ofAny[name]
		}
		read = read || readHere.MatchString(section) || readHere.MatchString(section+"."+key)
		if f[8] == "yes" && !read {
			t.Errorf("conf/keys.tsv: %s %s says that it acts, and nothing reads it", section, key)
		}
		if f[8] == "no" && read && section == "global" && !carried[key] {
			t.Errorf("conf/keys.tsv: %s is read and says that it does not act", key)
		}
	}
}

// carried are keys that are handed on to who does not act on them yet, or whose
// name means something else where it is read.
var carried = map[string]bool{
	"PriorityWeightAssoc": true, "PriorityWeightFairshare": true, "PriorityWeightQOS": true, "PriorityWeightTRES": true,
	"AuthType": true, "InactiveLimit": true, "Prolog": true, "Epilog": true, "TreeWidth": true, "MpiDefault": true,
}
