// Package auth proves who asks, and says what daemons vouch for.
//
// Three proofs live here:
//
//   - Tokens. All daemons of a cluster share a [Key], the content of slurm.key.
//     Whoever holds it can [Key.Mint] a token that says "this is uid 1000 of
//     cluster c until noon"; the others [Key.Verify] it. A token is a compact
//     JWT (HS256), so that other software can read and make them.
//   - The token socket. [ServeSocket] gives a local process a token for the uid
//     that the kernel reports of it. One daemon of a host serves, the others
//     stand by.
//   - Credentials. The controller signs with its own Ed25519 key what a node may
//     run ([Signer], [VerifyCredential]); nodes hold only the public half.
//
// A [Gate] is the server's side of tokens: it puts the [Identity] of the caller
// into the context of each call. What an identity may do is decided elsewhere,
// by its [Role].
//
// Invariants: an Identity in a context was proven; no secret is ever printed; a
// token of another cluster, with another signature, or past its time is worth
// nothing. Failure modes are errors with code errs.InvalidAuth that say which of
// these it was.
package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-hpc/sluice/sdk/wlm"
)

// Role is what a user may do, in Slurm's words; each includes the ones before.
type Role uint8

// The roles.
const (
	RoleUser          Role = iota
	RoleCoordinator        // of accounts
	RoleOperator           // sees and changes any job
	RoleAdministrator      // changes the cluster
	RoleSlurmUser          // the user the daemons run as
	RoleRoot
)

var roleNames = [...]string{"user", "coordinator", "operator", "administrator", "slurmuser", "root"}

// String is the word in tokens and messages.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// ParseRole reads a role's word; empty is user.
func ParseRole(s string) (Role, error) {
	if s == "" {
		return RoleUser, nil
	}
	if i := slices.Index(roleNames[:], strings.ToLower(s)); i >= 0 {
		return Role(i), nil
	}
	return 0, fmt.Errorf("role %q: allowed are %s", s, strings.Join(roleNames[:], ", "))
}

// Identity is who calls, proven by a token.
type Identity struct {
	UID  wlm.UID
	GID  wlm.GID
	User string
	GIDs []wlm.GID // supplementary groups, where the token names them
	Node string    // of a daemon: the node it is; empty for users
	Role Role
}

// Admin reports whether the identity may change any job and the cluster.
func (id *Identity) Admin() bool { return id.Role >= RoleOperator }

type identityKey struct{}

// With returns a context that carries a proven identity.
func With(ctx context.Context, id *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// From returns the identity that a [Gate] put into ctx, or nil. It is shared:
// do not change it.
func From(ctx context.Context) *Identity {
	id, _ := ctx.Value(identityKey{}).(*Identity)
	return id
}
