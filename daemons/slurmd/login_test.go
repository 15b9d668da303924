package main

import (
	"context"
	"os/user"
	"slices"
	"strings"
	"testing"
)

func TestLoginEnv(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	t.Setenv("FROM_SLURMD", "1")
	env, err := loginEnv(context.Background(), me.Username)
	if err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	}
	if !has("PATH") || !has("HOME") || has("FROM_SLURMD") || has(loginMark) {
		t.Errorf("the environment is %q", env)
	}
	if env, err := loginEnv(context.Background(), "no-such-user-here"); err == nil && me.Uid == "0" {
		t.Errorf("an unknown user has %q", env)
	}
}
