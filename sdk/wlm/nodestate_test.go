package wlm

import (
	"strings"
	"testing"

	"github.com/sluice-hpc/sluice/sdk/errs"
)

func TestNodeState(t *testing.T) {
	tests := []struct {
		name              string
		state             NodeState
		flags             NodeFlags
		alloc             int
		comp              bool
		long, short, full string
	}{
		{"idle", NodeUp, 0, 0, false, "idle", "idle", "IDLE"},
		{"mixed", NodeUp, 0, 1, false, "mixed", "mix", "MIXED"},
		{"allocated", NodeUp, 0, 64, false, "allocated", "alloc", "ALLOCATED"},
		{"allocated and completing", NodeUp, 0, 64, true, "allocated+", "alloc+", "ALLOCATED+COMPLETING"},
		{"completing", NodeUp, 0, 0, true, "completing", "comp", "IDLE+COMPLETING"},
		{"completing by flag", NodeUp, NodeCompleting, 0, false, "completing", "comp", "IDLE+COMPLETING"},
		{"drained", NodeUp, NodeDrain, 0, false, "drained", "drain", "IDLE+DRAIN"}, // observed
		{"draining", NodeUp, NodeDrain, 5, false, "draining", "drng", "MIXED+DRAIN"},
		{"draining while completing", NodeUp, NodeDrain, 0, true, "draining", "drng", "IDLE+COMPLETING+DRAIN"},
		{"down", NodeDown, 0, 0, false, "down", "down", "DOWN"},
		{"silent", NodeDown, NodeNotResponding, 0, false, "down*", "down*", "DOWN+NOT_RESPONDING"},
		{"silent and drained", NodeDown, NodeNotResponding | NodeDrain, 0, false, "drained*", "drain*", "DOWN+DRAIN+NOT_RESPONDING"},
		{"silent, not yet down", NodeUp, NodeNotResponding, 0, false, "idle*", "idle*", "IDLE+NOT_RESPONDING"},
		{"invalid wins", NodeUp, NodeInvalidReg | NodeDrain, 0, false, "inval", "inval", "IDLE+DRAIN+INVALID_REG"},
		{"maintenance", NodeUp, NodeMaint | NodeReserved, 0, false, "maint", "maint", "IDLE+MAINTENANCE+RESERVED"},
		{"busy in maintenance", NodeUp, NodeMaint, 1, false, "mixed$", "mix$", "MIXED+MAINTENANCE"},
		{"down in maintenance", NodeDown, NodeMaint | NodeNotResponding, 0, false, "down$", "down$", "DOWN+MAINTENANCE+NOT_RESPONDING"},
		{"reserved", NodeUp, NodeReserved, 0, false, "reserved", "resv", "IDLE+RESERVED"},
		{"planned", NodeUp, NodePlanned, 0, false, "planned", "plnd", "IDLE+PLANNED"},
		{"planned and mixed", NodeUp, NodePlanned, 1, false, "mixed-", "mix-", "MIXED+PLANNED"},
		{"blocked", NodeUp, NodeBlocked, 0, false, "blocked", "block", "IDLE+BLOCKED"},
		{"reboot of a busy node", NodeUp, NodeRebootRequested | NodeDrain, 1, false, "draining@", "drng@", "MIXED+DRAIN+REBOOT_REQUESTED"},
		{"reboot", NodeUp, NodeRebootRequested, 0, false, "reboot@", "boot@", "IDLE+REBOOT_REQUESTED"},
		{"reboot issued", NodeUp, NodeRebootIssued | NodeDrain, 0, false, "reboot^", "boot^", "IDLE+DRAIN+REBOOT_ISSUED"},
		{"failing", NodeUp, NodeFailFlag, 1, false, "failing", "failg", "MIXED+FAIL"},
		{"fail", NodeUp, NodeFailFlag, 0, false, "fail", "fail", "IDLE+FAIL"},
		{"powered down", NodeUp, NodePoweredDown | NodeCloud, 0, false, "idle~", "idle~", "IDLE+CLOUD+POWERED_DOWN"},
		{"powering up", NodeUp, NodePoweringUp | NodeNotResponding, 64, false, "allocated#", "alloc#", "ALLOCATED+NOT_RESPONDING+POWERING_UP"},
		{"powering down", NodeUp, NodePoweringDown, 0, false, "idle%", "idle%", "IDLE+POWERING_DOWN"},
		{"power down requested", NodeUp, NodePowerDown, 0, false, "idle!", "idle!", "IDLE+POWER_DOWN"},
		{"future", NodeFuture, 0, 0, false, "future", "futr", "FUTURE"},
		{"unknown", NodeUnknown, NodeNotResponding, 0, false, "unknown*", "unk*", "UNKNOWN+NOT_RESPONDING"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &Node{CPUs: 64, State: tt.state, Flags: tt.flags}
			long, short := NodeStateLong(n, tt.alloc, tt.comp), NodeStateShort(n, tt.alloc, tt.comp)
			if full := NodeStateFull(n, tt.alloc, tt.comp); long != tt.long || short != tt.short || full != tt.full {
				t.Errorf("got %s, %s, %s", long, short, full)
			}
			word := strings.TrimRight(tt.short, "*$^@#%~!+-")
			state, err := ParseNodeState(word)
			if err != nil || !state.Matches(n, tt.alloc, tt.comp) {
				t.Errorf("not found by %s: %v", word, err)
			}
		})
	}
}

func TestParseNodeState(t *testing.T) {
	busy := &Node{CPUs: 4, State: NodeUp, Flags: NodeDrain}
	tests := []struct {
		in   string
		want bool
	}{{"DRAIN", true}, {"drng", true}, {"drained", false}, {"alloc", true}, {"mix", false}, {"idle", false}, {"down", false}, {"cloud", false}}
	for _, tt := range tests {
		w, err := ParseNodeState(tt.in)
		if err != nil || w.Matches(busy, 4, false) != tt.want {
			t.Errorf("%s: %v, %v", tt.in, !tt.want, err)
		}
	}
	_, err := ParseNodeState("foo")
	if err == nil || err.Error() != `Bad state string: "foo"` {
		t.Errorf("error %v", err)
	}
	const valid = "unknown,down,idle,allocated,mixed,future,drain,drained,draining,no_respond,reserved,planned,blocked,cloud,completing," +
		"powering_down,powered_down,power_down,powering_up,power_up,inval,fail,maint,reboot,reboot^,external,dynamic_future,dynamic_norm"
	if got := ValidNodeStates(); got != valid {
		t.Errorf("valid states: %s", got)
	}
	if NodeStateWord("").Matches(busy, 0, false) {
		t.Error("the empty word matches")
	}
}

func TestParseNodeVerb(t *testing.T) {
	for _, s := range []string{"drain", "RESUME", "Undrain", "power_down_asap", "noresp"} {
		if v, err := ParseNodeVerb(s); err != nil || !strings.EqualFold(string(v), s) {
			t.Errorf("%s: %s, %v", s, v, err)
		}
	}
	if _, err := ParseNodeVerb("mixed"); errs.CodeOf(err) != errs.InvalidNodeState {
		t.Errorf("error %v", err)
	}
}
