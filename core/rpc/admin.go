package rpc

import (
	"context"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// tokenLife is the lifespan of a token that does not say one, as in scontrol.
const tokenLife = 30 * time.Minute

// Ping implements ctlv1.ControllerServer.
func (s *Server) Ping(context.Context, *ctlv1.PingRequest) (*ctlv1.PingReply, error) {
	r := &ctlv1.PingReply{Version: s.deps.Version, Host: s.deps.Host, Mode: "primary", Now: int64(s.now()), Started: s.started.Unix()}
	if s.deps.Mode != nil {
		r.Mode = s.deps.Mode()
	}
	if s.deps.Warnings != nil {
		r.Warnings = s.deps.Warnings()
	}
	return r, nil
}

// Config implements ctlv1.ControllerServer.
func (s *Server) Config(context.Context, *ctlv1.ConfigRequest) (*ctlv1.ConfigReply, error) {
	r := &ctlv1.ConfigReply{Now: int64(s.now())}
	for _, v := range s.deps.Conf().All() {
		if v.Origin == "runtime" {
			v.Value = s.runtime(v.Key)
		}
		r.Values = append(r.Values, &ctlv1.ConfigValue{Key: v.Key, Value: v.Value, Origin: v.Origin})
	}
	return r, nil
}

// Topology implements ctlv1.ControllerServer.
func (s *Server) Topology(context.Context, *ctlv1.TopologyRequest) (*ctlv1.TopologyReply, error) {
	return &ctlv1.TopologyReply{Site: s.deps.Conf().Topology.Encode()}, nil
}

// runtime is a value of scontrol show config that is not in any file.
func (s *Server) runtime(key string) string {
	switch key {
	case "BOOT_TIME":
		return wlm.FormatTime(wlm.Time(s.started.Unix()), "Unknown")
	case "HASH_VAL":
		return "Match"
	case "NEXT_JOB_ID":
		return strconv.FormatUint(uint64(s.deps.View.Counts().NextJob), 10)
	case "SLURM_VERSION":
		return s.deps.Version
	}
	return ""
}

// Reconfigure implements ctlv1.ControllerServer.
func (s *Server) Reconfigure(ctx context.Context, r *ctlv1.ReconfigureRequest) (*ctlv1.ReconfigureReply, error) {
	if s.deps.Reconfigure == nil {
		return nil, errs.Coded("rpc.Reconfigure", errs.NotSupported)
	}
	changes, warnings, err := s.deps.Reconfigure(ctx, r.GetDryRun())
	return &ctlv1.ReconfigureReply{Changes: changes, Warnings: warnings}, err
}

// Shutdown implements ctlv1.ControllerServer.
func (s *Server) Shutdown(ctx context.Context, r *ctlv1.ShutdownRequest) (*ctlv1.UpdateReply, error) {
	if s.deps.Shutdown == nil {
		return nil, errs.Coded("rpc.Shutdown", errs.NotSupported)
	}
	return &ctlv1.UpdateReply{}, s.deps.Shutdown(ctx, r.GetControllerOnly())
}

// Plugins implements ctlv1.ControllerServer.
func (s *Server) Plugins(_ context.Context, r *ctlv1.PluginsRequest) (*ctlv1.PluginsReply, error) {
	reply := &ctlv1.PluginsReply{}
	if s.deps.Plugins != nil {
		reply.Plugins = s.deps.Plugins(r.GetName())
	}
	if r.GetName() != "" && len(reply.Plugins) == 0 {
		return nil, errs.Coded("rpc.Plugins", errs.UnknownPlugin, "no plugin "+r.GetName()+" is in service")
	}
	return reply, nil
}

// ChangePlugin implements ctlv1.ControllerServer.
func (s *Server) ChangePlugin(ctx context.Context, r *ctlv1.ChangePluginRequest) (*ctlv1.ChangePluginReply, error) {
	if s.deps.ChangePlugin == nil {
		return nil, errs.Coded("rpc.ChangePlugin", errs.NotSupported)
	}
	if p := r.GetPath(); p != "" && !filepath.IsAbs(p) {
		return nil, errs.Newf("rpc.ChangePlugin", errs.Invalid, "%s: the path of a plugin must be absolute", p)
	}
	// A swap that has begun ends one way or the other, whoever waits for it.
	messages, err := s.deps.ChangePlugin(context.WithoutCancel(ctx), r)
	return &ctlv1.ChangePluginReply{Messages: messages}, err
}

// Shadows implements ctlv1.ControllerServer.
func (s *Server) Shadows(context.Context, *ctlv1.ShadowsRequest) (*ctlv1.ShadowsReply, error) {
	if s.deps.Shadows == nil {
		return &ctlv1.ShadowsReply{}, nil
	}
	return &ctlv1.ShadowsReply{Shadows: s.deps.Shadows()}, nil
}

// Diag implements ctlv1.ControllerServer.
func (s *Server) Diag(_ context.Context, r *ctlv1.DiagRequest) (*ctlv1.DiagReply, error) {
	n := s.deps.View.Counts()
	reply := &ctlv1.DiagReply{Since: s.started.Unix(), Gauges: map[string]float64{}, Counters: map[string]int64{
		"rpc_panics": int64(s.panics.Load()), "rpc_garbage_connections": int64(s.garbage.Load()),
		"rpc_denied": int64(s.denied.Load()), "rpc_unauthenticated": int64(s.deps.Gate.Refused()),
		"jobs": int64(n.Jobs), "jobs_running": int64(n.Running), "nodes": int64(n.Nodes), "partitions": int64(n.Partitions),
	}}
	for method, c := range s.calls {
		if calls := c.calls.Load(); calls > 0 {
			reply.Counters["rpc_calls:"+base(method)] += int64(calls)
			reply.Counters["rpc_failed:"+base(method)] += int64(c.failed.Load())
		}
	}
	if s.deps.Diag != nil {
		s.deps.Diag(r.GetReset_(), reply)
	}
	if r.GetReset_() {
		s.panics.Store(0)
		s.garbage.Store(0)
		s.denied.Store(0)
		for _, c := range s.calls {
			c.calls.Store(0)
			c.failed.Store(0)
		}
	}
	return reply, nil
}

// Token implements ctlv1.ControllerServer; its row says who may ask for whom.
func (s *Server) Token(ctx context.Context, r *ctlv1.TokenRequest) (*ctlv1.TokenReply, error) {
	id := auth.From(ctx)
	c := auth.Claims{User: id.User, UID: id.UID, GID: id.GID, GIDs: id.GIDs, Cluster: s.deps.Cluster}
	if r.GetUser() != "" && r.GetUser() != id.User {
		a, err := auth.LookupUser(r.GetUser())
		if err != nil {
			return nil, errs.Coded("rpc.Token", errs.UserIDMissing).With("%v", err)
		}
		c = auth.Claims{User: a.Name, UID: a.UID, GID: a.GID, Cluster: s.deps.Cluster}
	}
	life := tokenLife
	if n := r.GetLifespan(); n > 0 {
		life = time.Duration(min(int64(n), math.MaxInt32)) * time.Second
	}
	token, err := s.deps.Key.Mint(c, life)
	return &ctlv1.TokenReply{Token: token}, err
}

// SetDebug implements ctlv1.ControllerServer.
func (s *Server) SetDebug(_ context.Context, r *ctlv1.SetDebugRequest) (*ctlv1.UpdateReply, error) {
	if s.deps.SetDebug == nil {
		return nil, errs.Coded("rpc.SetDebug", errs.NotSupported)
	}
	return &ctlv1.UpdateReply{}, s.deps.SetDebug(r.GetLevel(), r.GetNodes())
}
