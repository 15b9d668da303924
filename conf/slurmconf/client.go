package slurmconf

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The values that hold when slurm.conf does not say.
const (
	DefaultPath           = "/etc/slurm/slurm.conf"
	DefaultSlurmctldPort  = 6817
	DefaultMessageTimeout = 10 * time.Second
	RunDir                = "/run/sluice" // of the local token sockets
)

// Find returns the path of the configuration: explicit if it is not empty,
// else $SLURM_CONF, else etc/slurm.conf of the prefix in which the running
// program is installed, else [DefaultPath]. In the prefix, slurm.yaml or
// slurm.toml serve when there is no slurm.conf. The file need not exist when
// the first two name it.
func Find(explicit string) string {
	if explicit != "" {
		return explicit
	}
	if env := os.Getenv("SLURM_CONF"); env != "" {
		return env
	}
	if exe, err := os.Executable(); err == nil {
		if p := beside(exe); p != "" {
			return p
		}
	}
	return DefaultPath
}

// beside looks for the configuration of the prefix that holds exe, which is
// in bin/, sbin/ or libexec/sluice/ of it.
func beside(exe string) string {
	if real, err := filepath.EvalSymlinks(exe); err == nil {
		exe = real
	}
	dir := filepath.Dir(exe)
	for _, up := range []string{"..", "../.."} {
		for _, name := range []string{"slurm.conf", "slurm.yaml", "slurm.toml"} {
			p := filepath.Join(dir, up, "etc", name)
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p
			}
		}
	}
	return ""
}

// Host is a controller: its name, and the address to dial.
type Host struct {
	Name string
	Addr string // the name when no address was given
}

// Dial is the address to dial: host:port. SlurmctldPort is port, unless the
// address names one of its own, as controllers that share a host must.
func (h Host) Dial(port uint16) string {
	if _, _, err := net.SplitHostPort(h.Addr); err == nil {
		return h.Addr
	}
	return net.JoinHostPort(h.Addr, strconv.Itoa(int(port)))
}

// ParseHost reads the value of SlurmctldHost: name, or name(address).
func ParseHost(s string) (Host, bool) {
	name, rest, has := strings.Cut(s, "(")
	if !has {
		return Host{s, s}, s != "" && !strings.ContainsAny(s, ") \t,")
	}
	addr, ok := strings.CutSuffix(rest, ")")
	return Host{name, addr}, ok && name != "" && addr != "" && !strings.ContainsAny(addr, "() \t,")
}

// Client is what a command needs to know: whom to ask, and how to prove who
// asks. It is not validated beyond that; package conf is.
type Client struct {
	Path           string // of the configuration
	ClusterName    string
	Hosts          []Host // the primary first
	Port           uint16 // SlurmctldPort; of a range, the first
	SlurmUser      string
	AuthType       string
	AuthInfo       map[string]string // options, lower case; an option without "=" has an empty value
	MessageTimeout time.Duration
	file           *File
}

// LoadClient reads the configuration at path, which is slurm.conf or, by its
// extension, flat YAML or TOML. A missing ClusterName or controller is an
// error; unknown keys are not.
func LoadClient(path string) (*Client, error) {
	f, err := clientFile(path)
	if err != nil {
		return nil, err
	}
	return newClient(path, f)
}

func newClient(path string, f *File) (*Client, error) {
	c := &Client{Path: path, Port: DefaultSlurmctldPort, SlurmUser: "root", AuthType: "auth/slurm",
		MessageTimeout: DefaultMessageTimeout, file: f}
	var bad Problems
	text := func(key string, to *string) {
		if p, ok := f.Lookup(key); ok && p.Value != "" {
			*to = p.Value
		}
	}
	text("ClusterName", &c.ClusterName)
	text("SlurmUser", &c.SlurmUser)
	text("AuthType", &c.AuthType)
	if c.ClusterName == "" {
		bad = append(bad, Problem{Pos{File: path}, "ClusterName", "is not set"})
	}
	bad = append(bad, c.hosts()...)
	if p, ok := f.Lookup("SlurmctldPort"); ok {
		first, _, _ := strings.Cut(p.Value, "-")
		n, err := strconv.ParseUint(first, 10, 16)
		if err != nil || n == 0 {
			bad = append(bad, Problem{p.Pos, p.Key, strconv.Quote(p.Value) + " is not a port or a range of ports"})
		}
		c.Port = uint16(n)
	}
	if p, ok := f.Lookup("MessageTimeout"); ok {
		n, err := strconv.ParseUint(p.Value, 10, 16)
		if err != nil || n == 0 {
			bad = append(bad, Problem{p.Pos, p.Key, strconv.Quote(p.Value) + " is not a number of seconds"})
		}
		c.MessageTimeout = time.Duration(n) * time.Second
	}
	var info string
	text("AuthInfo", &info)
	c.AuthInfo = options(info)
	if len(bad) > 0 {
		return nil, bad
	}
	return c, nil
}

// options splits "a=1,b" into a map with lower-case names.
func options(s string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			k, v, _ := strings.Cut(part, "=")
			m[strings.ToLower(k)] = v
		}
	}
	return m
}

func (c *Client) hosts() Problems {
	var bad Problems
	for _, e := range c.file.All("SlurmctldHost") {
		h, ok := ParseHost(e.Value)
		if !ok {
			bad = append(bad, Problem{e.Pos, e.Key, strconv.Quote(e.Value) + " is not name or name(address)"})
			continue
		}
		c.Hosts = append(c.Hosts, h)
	}
	if len(c.Hosts) > 0 || len(bad) > 0 {
		return bad
	}
	for _, old := range [][2]string{{"ControlMachine", "ControlAddr"}, {"BackupController", "BackupAddr"}} {
		names, _ := c.file.Lookup(old[0])
		addr, _ := c.file.Lookup(old[1])
		for i, name := range strings.FieldsFunc(names.Value, isComma) {
			h := Host{name, name}
			if i == 0 && addr.Value != "" {
				h.Addr = addr.Value
			}
			c.Hosts = append(c.Hosts, h)
		}
	}
	if len(c.Hosts) == 0 {
		bad = append(bad, Problem{Pos{File: c.Path}, "SlurmctldHost", "is not set"})
	}
	return bad
}

func isComma(r rune) bool { return r == ',' }

// Controllers lists the addresses to dial, in order of preference. With
// SlurmctldAddr, that address comes first.
func (c *Client) Controllers() []string {
	port := strconv.Itoa(int(c.Port))
	var out []string
	if v, _, ok := c.Lookup("SlurmctldAddr"); ok && v != "" {
		out = append(out, net.JoinHostPort(v, port))
	}
	for _, h := range c.Hosts {
		out = append(out, h.Dial(c.Port))
	}
	return out
}

// Socket is the local socket that gives out tokens: option socket of
// AuthInfo, else a path made of [RunDir] and the cluster's name.
func (c *Client) Socket() string {
	if s := c.AuthInfo["socket"]; s != "" {
		return s
	}
	return filepath.Join(RunDir, c.ClusterName+".sock")
}

// KeyPath is the shared key of auth/slurm: slurm.key beside the configuration.
func (c *Client) KeyPath() string { return filepath.Join(filepath.Dir(c.Path), "slurm.key") }

// Lookup returns the value that key has in the file, and where it stands.
func (c *Client) Lookup(key string) (value, origin string, ok bool) {
	p, ok := c.file.Lookup(key)
	return p.Value, p.Pos.String(), ok
}

// Seconds returns the value of a key that is a number of seconds, def when it
// is not set or not a number.
func (c *Client) Seconds(key string, def time.Duration) time.Duration {
	p, ok := c.file.Lookup(key)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(p.Value, 10, 31)
	if err != nil {
		return def
	}
	return time.Duration(n) * time.Second
}
