package launch

import (
	"context"

	"github.com/sluice-hpc/sluice/sdk/plugin/wirecall"
	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
)

const (
	methodLaunch  = "Launch"
	methodSignal  = "Signal"
	methodWatch   = "Watch"
	methodRecover = "Recover"
	methodStats   = "Stats"
	methodForget  = "Forget"
)

// Handler answers the kind's calls with l.
func Handler(l Launcher) wirecall.Handler {
	return wirecall.Handler{Kind: Kind, Contracts: Contracts,
		Serve: func(ctx context.Context, r wirecall.Request) ([]byte, error) { return serve(ctx, l, r) }}
}

func serve(ctx context.Context, l Launcher, r wirecall.Request) ([]byte, error) {
	switch r.Method {
	case methodLaunch:
		return wirecall.Answer(ctx, r, new(launchv1.LaunchRequest), l.Launch)
	case methodSignal:
		return wirecall.Answer(ctx, r, new(launchv1.SignalRequest), func(ctx context.Context, in *launchv1.SignalRequest) (*launchv1.Empty, error) {
			return &launchv1.Empty{}, l.Signal(ctx, in)
		})
	case methodRecover:
		return wirecall.Answer(ctx, r, new(launchv1.RecoverRequest), func(ctx context.Context, in *launchv1.RecoverRequest) (*launchv1.RecoverReply, error) {
			return l.Recover(ctx, in.GetSpool())
		})
	case methodStats:
		return wirecall.Answer(ctx, r, new(launchv1.StepRef), l.Stats)
	case methodForget:
		return wirecall.Answer(ctx, r, new(launchv1.ForgetRequest), func(ctx context.Context, in *launchv1.ForgetRequest) (*launchv1.Empty, error) {
			return &launchv1.Empty{}, l.Forget(ctx, in.GetStep())
		})
	case methodWatch:
		return wirecall.Answer(ctx, r, new(launchv1.WatchRequest), func(ctx context.Context, _ *launchv1.WatchRequest) (*launchv1.Empty, error) {
			tell := func(h *launchv1.Happening) error {
				b, err := wirecall.Marshal("launch.Watch", h)
				if err != nil {
					return err
				}
				return r.Send(b)
			}
			if err := tell(&launchv1.Happening{}); err != nil {
				return nil, err
			}
			return &launchv1.Empty{}, l.Watch(ctx, tell)
		})
	}
	return nil, wirecall.UnknownMethod(Kind, r.Method)
}

// Client is the host's side: a launcher in another process.
type Client struct{ caller wirecall.Caller }

var _ Launcher = (*Client)(nil)

// NewClient returns a client that reaches the plugin through c.
func NewClient(c wirecall.Caller) *Client { return &Client{c} }

// Launch is Launcher's.
func (c *Client) Launch(ctx context.Context, r *launchv1.LaunchRequest) (*launchv1.LaunchReply, error) {
	out := new(launchv1.LaunchReply)
	return out, wirecall.Ask(ctx, c.caller, Kind, methodLaunch, r, out)
}

// Signal is Launcher's.
func (c *Client) Signal(ctx context.Context, r *launchv1.SignalRequest) error {
	return wirecall.Ask(ctx, c.caller, Kind, methodSignal, r, new(launchv1.Empty))
}

// Watch is Launcher's. Its first happening is empty and says that the plugin
// hears the call; plugins of before that was so begin without. It ends with
// errs.Unavail when the plugin does: call it again once the plugin was started
// again.
func (c *Client) Watch(ctx context.Context, tell func(*launchv1.Happening) error) error {
	return c.caller.Stream(ctx, Kind, methodWatch, nil, func(b []byte) error {
		h := new(launchv1.Happening)
		if err := wirecall.Unmarshal("launch.Watch", b, h); err != nil {
			return err
		}
		return tell(h)
	})
}

// Recover is Launcher's.
func (c *Client) Recover(ctx context.Context, spool string) (*launchv1.RecoverReply, error) {
	out := new(launchv1.RecoverReply)
	return out, wirecall.Ask(ctx, c.caller, Kind, methodRecover, &launchv1.RecoverRequest{Spool: spool}, out)
}

// Stats is Launcher's.
func (c *Client) Stats(ctx context.Context, step *launchv1.StepRef) (*launchv1.StatsReply, error) {
	out := new(launchv1.StatsReply)
	return out, wirecall.Ask(ctx, c.caller, Kind, methodStats, step, out)
}

// Forget is Launcher's.
func (c *Client) Forget(ctx context.Context, step *launchv1.StepRef) error {
	return wirecall.Ask(ctx, c.caller, Kind, methodForget, &launchv1.ForgetRequest{Step: step}, new(launchv1.Empty))
}
