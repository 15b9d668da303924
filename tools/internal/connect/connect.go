// Package connect opens the cluster that a command's configuration names.
//
// The configuration is found as package conf/slurmconf says. A token that the
// user brings in SLURM_JWT is used as it is; else the local daemon is asked
// for one. Opening does not dial a controller: the first call does.
package connect

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/sluice-hpc/sluice/conf/slurmconf"
	"github.com/sluice-hpc/sluice/sdk/client"
	"github.com/sluice-hpc/sluice/sdk/errs"
)

// Open finds the configuration and opens its cluster for the command prog.
func Open(ctx context.Context, prog string) (*client.Client, error) {
	c, err := Conf()
	if err != nil {
		return nil, err
	}
	return Dial(ctx, c)
}

// Conf finds and reads the configuration. An error says which file it is.
func Conf() (*slurmconf.Client, error) {
	path := slurmconf.Find("")
	if _, err := os.Stat(path); err != nil {
		why := err.Error()
		if no, ok := errors.AsType[syscall.Errno](err); ok {
			why = text(no)
		}
		return nil, errs.Newf("connect.Conf", errs.NotFound, "s_p_parse_file: cannot stat file %s: %s", path, why)
	}
	c, err := slurmconf.LoadClient(path)
	if err != nil {
		return nil, errs.Newf("connect.Conf", errs.Invalid, "%w", err)
	}
	return c, nil
}

// text is the message of an error number as the C library prints it.
func text(no syscall.Errno) string {
	switch no {
	case syscall.ENOENT:
		return "No such file or directory"
	case syscall.EACCES:
		return "Permission denied"
	}
	return no.Error()
}

// Dial opens the cluster that c names.
func Dial(ctx context.Context, c *slurmconf.Client) (*client.Client, error) {
	var opts []client.Option
	if token := os.Getenv("SLURM_JWT"); token != "" {
		opts = append(opts, client.WithToken(token))
	}
	return client.Open(ctx, client.Target{
		Cluster:     c.ClusterName,
		Controllers: c.Controllers(),
		Socket:      c.Socket(),
		Timeout:     c.MessageTimeout,
	}, opts...)
}

// OnlyOurs refuses a list of clusters, as --clusters and SLURM_CLUSTERS have it,
// with others in it than the configuration's own. Empty and "all" mean that one.
func OnlyOurs(conf *slurmconf.Client, clusters string) error {
	for name := range strings.SplitSeq(clusters, ",") {
		if name = strings.TrimSpace(name); name != "" && !strings.EqualFold(name, "all") && name != conf.ClusterName {
			return errs.Newf("connect.OnlyOurs", errs.Invalid, "No cluster '%s' known by database: this is cluster %s, which knows no others", name, conf.ClusterName)
		}
	}
	return nil
}
