package pass

import (
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/priority"
	"github.com/sluice-hpc/sluice/sdk/sched"
	"github.com/sluice-hpc/sluice/sdk/selector"
	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// follower is a candidate whose mirror is kept like those of the live plugins.
type follower struct {
	p     Plugin
	epoch uint64   // fed; 0: its mirror is lost
	held  bool     // it makes a pass at one rev: what changes waits
	wait  [][]byte // held back
}

// Rehearse gives a candidate of a kind everything, and lets it make one pass
// whose result is dropped. Live passes go on meanwhile, held up only while the
// snapshot is encoded. Afterwards the candidate is fed like the live plugins
// until Switch or Dismiss. An error says why the candidate must not serve.
func (r *Runner) Rehearse(ctx context.Context, kind string, c Plugin) error {
	f := &follower{p: c, held: true}
	rev, now, ask, err := r.follow(kind, f)
	if err == nil {
		err = ask(ctx, rev, now)
	}
	if err == nil {
		err = r.release(f)
	}
	if err != nil {
		r.Dismiss(c)
	}
	return err
}

// follow starts to feed a candidate and says what to ask it.
func (r *Runner) follow(kind string, f *follower) (rev uint64, now wlm.Time, ask func(context.Context, uint64, wlm.Time) error, err error) {
	r.passing.Lock()
	defer r.passing.Unlock()
	now = wlm.TimeOf(r.o.Now())
	r.take()
	if err := r.sync(now); err != nil {
		r.o.Log.Debug("live plugins not in step while a candidate is tried", "err", err)
	}
	frames := r.feed.snapshot(now)
	f.epoch = f.p.Epoch()
	if err := f.p.PushState(f.epoch, frames); err != nil {
		return 0, 0, nil, err
	}
	r.followers = append(r.followers, f)
	var agenda sched.Agenda
	var ids []wlm.JobID
	for id := range r.feed.pending {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		agenda.Add(id, sched.Skip)
	}
	switch kind {
	case sched.Kind:
		ask = func(ctx context.Context, rev uint64, now wlm.Time) error {
			_, err := sched.NewClient(f.p).Plan(ctx, rev, now)
			return err
		}
	case selector.Kind:
		ask = func(ctx context.Context, rev uint64, now wlm.Time) error {
			_, err := selector.NewClient(f.p).Place(ctx, rev, now, selector.Request{Agenda: agenda})
			return err
		}
	case priority.Kind:
		req := priority.Request{All: true, Highest: r.highest, Lowest: r.lowest}
		ask = func(ctx context.Context, rev uint64, now wlm.Time) error {
			_, err := priority.NewClient(f.p).Rank(ctx, rev, now, req)
			return err
		}
	default:
		return 0, 0, nil, errs.Newf("pass.Rehearse", errs.Internal, "no pass calls plugins of the kind %s", kind)
	}
	return r.feed.encoder.Rev(), now, ask, nil
}

// release gives a follower what was held back.
func (r *Runner) release(f *follower) error {
	r.passing.Lock()
	defer r.passing.Unlock()
	f.held = false
	if f.epoch != 0 && len(f.wait) > 0 {
		if err := f.p.PushState(f.epoch, f.wait); err != nil {
			return err
		}
	}
	f.wait = nil
	return nil
}

// Switch calls adopt between two passes; adopt makes the process of the
// candidate the one that serves the live plugin. If the candidate's mirror is
// in step, the next pass needs no snapshot.
func (r *Runner) Switch(live, c Plugin, adopt func() error) error {
	r.passing.Lock()
	defer r.passing.Unlock()
	i := slices.IndexFunc(r.followers, func(f *follower) bool { return f.p == c })
	inStep := i >= 0 && r.followers[i].epoch != 0 && r.followers[i].epoch == c.Epoch()
	r.dismissLocked(c)
	if err := adopt(); err != nil {
		return err
	}
	delete(r.fed, live)
	if inStep {
		r.fed[live] = live.Epoch()
	}
	r.cause = true
	r.Wake()
	return nil
}

// Dismiss ends the feeding of a candidate.
func (r *Runner) Dismiss(c Plugin) {
	r.passing.Lock()
	defer r.passing.Unlock()
	r.dismissLocked(c)
}

func (r *Runner) dismissLocked(c Plugin) {
	r.followers = slices.DeleteFunc(r.followers, func(f *follower) bool { return f.p == c })
}

// syncFollowers gives candidates the frames of the live plugins. One that does
// not take them, or for which mirrors start over, is out of step: it then gets
// a snapshot when it serves.
func (r *Runner) syncFollowers(frames [][]byte, over bool) {
	const most = 64 << 20 // bytes held back for one that is slow
	for _, f := range r.followers {
		switch {
		case f.epoch == 0 || len(frames) == 0 && !over:
		case over:
			f.epoch, f.wait = 0, nil
		case f.held:
			f.wait = append(f.wait, frames...)
			n := 0
			for _, b := range f.wait {
				n += len(b)
			}
			if n > most {
				f.epoch, f.wait = 0, nil
			}
		default:
			if err := f.p.PushState(f.epoch, frames); err != nil {
				f.epoch = 0
			}
		}
	}
}
