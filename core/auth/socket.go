package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-hpc/sluice/sdk/errs"
	"github.com/sluice-hpc/sluice/sdk/wlm"
	"golang.org/x/sys/unix"
)

const (
	maxSocketPath = 107             // bytes that a Unix socket's address holds
	peerTimeout   = 2 * time.Second // for a process to read its token
	maxPeers      = 256             // processes served at once
	lockRetry     = time.Second     // between tries to open a lock that another user made
	acceptPause   = 20 * time.Millisecond
	socketMode    = 0o666 // everybody may ask; the kernel tells who did
	socketDirMode = 0o755
	tokenLife     = 10 * time.Minute
)

// Peer is a local process, as the kernel knows it.
type Peer struct {
	UID wlm.UID
	GID wlm.GID
	PID int32
}

// Reply is what a local process is told, as one line of JSON.
type Reply struct {
	Token       string   `json:"token"`
	UID         wlm.UID  `json:"uid"`
	GID         wlm.GID  `json:"gid"`
	User        string   `json:"user"`
	Cluster     string   `json:"cluster"`
	Controllers []string `json:"controllers"` // host:port, in order of preference
	Expires     int64    `json:"expires"`     // Unix seconds
}

// Issuer makes the replies of a token socket.
type Issuer struct {
	Key         Key
	Cluster     string
	Controllers func() []string // host:port, in order of preference
}

// Reply is for [ServeSocket].
func (i *Issuer) Reply(p Peer) (Reply, error) {
	r := Reply{UID: p.UID, GID: p.GID, User: UserName(p.UID), Cluster: i.Cluster, Expires: time.Now().Add(tokenLife).Unix()}
	if i.Controllers != nil {
		r.Controllers = i.Controllers()
	}
	var err error
	r.Token, err = i.Key.Mint(Claims{User: r.User, UID: p.UID, GID: p.GID, Cluster: i.Cluster}, tokenLife)
	return r, err
}

// ServeSocket gives tokens to local processes at path until ctx ends, and then
// returns nil. Several daemons of a host may serve the same path: whoever holds
// the lock beside it does, the others wait and take over as soon as it is gone,
// kill -9 included. Nothing that a process sends is ever read.
//
// An error means that the path cannot be served by this process at all.
func ServeSocket(ctx context.Context, path string, reply func(Peer) (Reply, error)) error {
	const op = "auth.ServeSocket"
	if len(path) > maxSocketPath-len(".new") {
		return errs.Newf(op, errs.Invalid, "socket %s: the path has %d bytes, at most %d are possible", path, len(path), maxSocketPath-len(".new"))
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return errs.Newf(op, errs.Invalid, "socket %s: %w", path, err)
	}
	lock, err := acquire(ctx, path+".lock")
	if err != nil {
		return errs.Newf(op, errs.Invalid, "socket %s: %w", path, err)
	}
	if lock == nil {
		return nil // ctx ended
	}
	defer lock.Close()
	l, err := listen(path)
	if err != nil {
		return errs.Newf(op, errs.Invalid, "socket %s: %w", path, err)
	}
	defer os.Remove(path) // while the lock is still ours
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slog.Debug("giving out tokens", "socket", path)
	accept(ctx, l, reply)
	return nil
}

// makeDir makes the socket's directory, which all users must be able to enter.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if err := os.MkdirAll(dir, socketDirMode); err != nil {
		return err
	}
	return os.Chmod(dir, socketDirMode)
}

// acquire waits for the lock; nil when ctx ended first. The wait is a blocking
// flock on a goroutine of its own, so that standing by costs nothing.
func acquire(ctx context.Context, path string) (*os.File, error) {
	f, err := openLock(ctx, path)
	if f == nil || err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() {
		for {
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
				got <- err
				return
			}
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return nil, nil
	}
}

// openLock opens the lock file. One that another user made cannot be opened:
// that user's daemon serves as long as the file is there.
func openLock(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			return f, nil
		}
		if _, serr := os.Stat(path); serr != nil || !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(lockRetry):
		}
	}
}

// listen replaces whatever is at path by a socket that is ready and has its
// mode from the first moment on.
func listen(path string) (*net.UnixListener, error) {
	fresh := path + ".new"
	os.Remove(fresh)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, socketMode)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, err
	}
	return l, nil
}

func accept(ctx context.Context, l *net.UnixListener, reply func(Peer) (Reply, error)) {
	slots := make(chan struct{}, maxPeers)
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			slog.Warn("token socket cannot accept", "err", err)
			time.Sleep(acceptPause) // out of descriptors, most likely
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer c.Close()
			if err := serveOne(c, reply); err != nil {
				slog.Warn("no token for a local process", "err", err)
			}
		}()
	}
}

func serveOne(c *net.UnixConn, reply func(Peer) (Reply, error)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	r, err := reply(Peer{UID: wlm.UID(cred.Uid), GID: wlm.GID(cred.Gid), PID: cred.Pid})
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(peerTimeout)) //nolint:errcheck // a socket always takes a deadline
	c.Write(append(b, '\n'))                        //nolint:errcheck // the process may be gone
	return nil
}
