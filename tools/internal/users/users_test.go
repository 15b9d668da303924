package users

import (
	"os"
	"testing"
)

func TestSystem(t *testing.T) {
	n := System()
	if got := n.User(0); got != "root" {
		t.Errorf("user 0 is %q", got)
	}
	if uid, ok := n.UID("root"); !ok || uid != 0 {
		t.Errorf("root is %d, %v", uid, ok)
	}
	if uid, ok := n.UID("4711"); !ok || uid != 4711 {
		t.Errorf("4711 is %d, %v", uid, ok)
	}
	if _, ok := n.UID("nosuchuser"); ok {
		t.Error("nosuchuser was found")
	}
	if got := n.User(987654); got != "987654" {
		t.Errorf("an unknown uid is %q", got)
	}
	if got := n.Group(0); got != "root" {
		t.Errorf("group 0 is %q", got)
	}
	if Me() != uint32(os.Getuid()) {
		t.Error("Me is somebody else")
	}
}

// A directory service is asked for what files do not have.
func TestAsksForOthers(t *testing.T) {
	n := &Names{ask: func(db, key string) string {
		if db == "passwd" && (key == "zoe" || key == "70000") {
			return "zoe:x:70000:70000::/home/zoe:/bin/sh"
		}
		return ""
	}}
	if uid, ok := n.UID("zoe"); !ok || uid != 70000 {
		t.Errorf("zoe is %d, %v", uid, ok)
	}
	if got := n.User(70000); got != "zoe" {
		t.Errorf("70000 is %q", got)
	}
}
