package agent

import (
	"context"
	"slices"

	"github.com/sluice-hpc/sluice/sdk/proto/launch/v1"
)

// loginVar in a batch job's environment asks for the login environment below
// it; sbatch sets it for --get-user-env and whatever implies it.
const loginVar = "SLURM_GET_USER_ENV=1"

// loginFallback is what a user has for sure when logging in cannot be tried.
func loginFallback(user string) []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LOGNAME=" + user, "USER=" + user}
}

// addLogin puts the user's login environment below that of a batch job that
// asks for it. A login that fails costs the variables, not the job.
func (a *Agent) addLogin(q *launchv1.LaunchRequest) {
	env := q.GetWork().GetEnv()
	if a.LoginEnv == nil || !slices.Contains(env, loginVar) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
	defer cancel()
	login, err := a.LoginEnv(ctx, q.GetUserName())
	if err != nil {
		a.Log.Warn("no login environment for a job", "node", a.Node, "job", q.GetJob(), "user", q.GetUserName(), "err", err)
		login = loginFallback(q.GetUserName())
	}
	e := newEnviron(login)
	for _, s := range newEnviron(env).list {
		e.add(s)
	}
	q.Work.Env = e.list
}
