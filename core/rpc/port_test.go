package rpc

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-hpc/sluice/core/auth"
)

func testKey(t *testing.T, fill byte) auth.Key {
	t.Helper()
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = fill
	}
	k, err := auth.NewKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A port tells calls from voters, and turns away whoever has another key.
func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPort(l, testKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	said := func(l net.Listener) string {
		t.Helper()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	say := func(c net.Conn, err error) net.Conn {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("PRI ")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	calls, voters := p.Calls(), p.Voters()
	addr := l.Addr().String()
	defer say(net.Dial("tcp", addr)).Close()
	if got := said(calls); got != "PRI " {
		t.Errorf("a call arrives as %q", got)
	}
	dial, err := DialVoter(testKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer say(dial(ctx, addr)).Close()
	if got := said(voters); got != "PRI " {
		t.Errorf("a voter arrives as %q", got)
	}
	// A connection that comes while nobody takes calls waits for the next who does.
	calls.Close()
	defer say(net.Dial("tcp", addr)).Close()
	if got := said(p.Calls()); got != "PRI " {
		t.Errorf("after the change: %q", got)
	}
	other, err := DialVoter(testKey(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := other(ctx, addr); err == nil {
		c.Close()
		t.Error("another cluster's key was accepted by the one who dials")
	}
	// A client that skips its own check is turned away by the port.
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocolVoters}})
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil {
		t.Error("a peer without a key was accepted")
	}
}
