// Command replay is a plugin of long ago: it says, frame by frame, what a plugin
// of contract version 1 once said, and insists that the host says what the host
// said then, as far as version 1 of the messages knows it. Its name chooses the
// conversation: <kind>_v1.
//
// What may differ: epochs, deadlines, health checks, and fields that version 1
// does not know. Anything else ends the session, with the difference on stderr.
package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/sluice-hpc/sluice/sdk/proto/plugin/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

//go:embed v1.binpb
var schema []byte

//go:embed conversations
var conversations embed.FS

// payloads names the message of each call's and answer's payload.
var payloads = map[string]string{
	"sched.Plan": "sched.v1.PlanRequest", "select.Place": "selector.v1.PlaceRequest", "select.WhatIf": "selector.v1.WhatIfRequest",
	"priority.Rank": "priority.v1.RankRequest", "job_submit.Submit": "jobsubmit.v1.Request", "job_submit.Modify": "jobsubmit.v1.Request",
	"launch.Launch": "launch.v1.LaunchRequest", "launch.Signal": "launch.v1.SignalRequest", "launch.Watch": "launch.v1.WatchRequest",
	"launch.Recover": "launch.v1.RecoverRequest", "launch.Stats": "launch.v1.StepRef", "launch.Forget": "launch.v1.ForgetRequest",
	"accounting_storage.Append": "acctstore.v1.AppendRequest", "accounting_storage.Jobs": "acctstore.v1.Query",
	"state": "mirror.v1.Frame", "reply": "jobsubmit.v1.PartitionsReply",
}

type line struct {
	host bool
	data []byte
}

type replay struct {
	pluginv1.UnimplementedPluginServer
	manifest []byte
	lines    []line
	files    *protoregistry.Files
}

func main() {
	name := filepath.Base(os.Args[0])
	r, err := load(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, name, err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
		os.Exit(0)
	}()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "SLUICE_PLUGIN", MagicCookieValue: "session-v1"},
		Plugins:         goplugin.PluginSet{"plugin": &service{r: r}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer:      goplugin.DefaultGRPCServer,
	})
}

func load(name string) (*replay, error) {
	r := &replay{}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(schema, &set); err != nil {
		return nil, err
	}
	var err error
	if r.files, err = protodesc.NewFiles(&set); err != nil {
		return nil, err
	}
	text, err := conversations.ReadFile("conversations/" + name + ".txt")
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		who, coded, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(who, "#") {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			return nil, err
		}
		if who == "manifest" {
			r.manifest = data
			continue
		}
		r.lines = append(r.lines, line{who == "host", data})
	}
	return r, nil
}

// Manifest is the service's.
func (r *replay) Manifest(context.Context, *pluginv1.ManifestRequest) (*pluginv1.ManifestReply, error) {
	m := new(pluginv1.ManifestReply)
	return m, proto.Unmarshal(r.manifest, m)
}

// Session is the service's.
func (r *replay) Session(stream grpc.BidiStreamingServer[pluginv1.HostFrame, pluginv1.PluginFrame]) error {
	var epoch uint64
	for n, l := range r.lines {
		if !l.host {
			f := new(pluginv1.PluginFrame)
			if err := proto.Unmarshal(l.data, f); err != nil {
				return err
			}
			f.Epoch = epoch
			if err := stream.Send(f); err != nil {
				return err
			}
			continue
		}
		got, err := next(stream)
		if err != nil {
			return err
		}
		epoch = got.GetEpoch()
		if err := r.compare(l.data, got); err != nil {
			fmt.Fprintf(os.Stderr, "frame %d: %v\n", n+1, err)
			time.Sleep(100 * time.Millisecond) // for the text to arrive
			return err
		}
	}
	for {
		f, err := stream.Recv()
		if err != nil || f.GetDrain() != nil {
			return nil
		}
	}
}

// next is the host's next frame that a conversation has.
func next(stream grpc.BidiStreamingServer[pluginv1.HostFrame, pluginv1.PluginFrame]) (*pluginv1.HostFrame, error) {
	for {
		f, err := stream.Recv()
		switch {
		case err != nil:
			return nil, err
		case f.GetCredit() != nil:
		case f.GetState() != nil && len(f.GetState().GetPayload()) == 0:
			if err := stream.Send(&pluginv1.PluginFrame{Epoch: f.GetEpoch(), Body: &pluginv1.PluginFrame_Synced{Synced: &pluginv1.Synced{}}}); err != nil {
				return nil, err
			}
		default:
			return f, nil
		}
	}
}

// compare compares frames as a plugin of version 1 decodes them.
func (r *replay) compare(then []byte, now *pluginv1.HostFrame) error {
	wire, err := proto.Marshal(now)
	if err != nil {
		return err
	}
	a, payloadA, err := r.frame(then)
	if err != nil {
		return err
	}
	b, payloadB, err := r.frame(wire)
	if err != nil {
		return err
	}
	if !proto.Equal(a, b) {
		return fmt.Errorf("the host said %v, it used to say %v", prototext.Format(b), prototext.Format(a))
	}
	if payloadA == nil || payloadB == nil {
		return nil
	}
	if !proto.Equal(payloadA, payloadB) {
		return fmt.Errorf("the host sent %v, it used to send %v", prototext.Format(payloadB), prototext.Format(payloadA))
	}
	return nil
}

// frame decodes a host frame of version 1 and its payload, without what may
// differ.
func (r *replay) frame(wire []byte) (frame, payload proto.Message, err error) {
	f := new(pluginv1.HostFrame)
	if err := proto.Unmarshal(wire, f); err != nil {
		return nil, nil, err
	}
	f.Epoch = 0
	var name string
	var bytes []byte
	switch b := f.GetBody().(type) {
	case *pluginv1.HostFrame_Call:
		b.Call.DeadlineMs = 0
		name, bytes, b.Call.Payload = b.Call.GetKind()+"."+b.Call.GetMethod(), b.Call.GetPayload(), nil
	case *pluginv1.HostFrame_State:
		name, bytes, b.State.Payload = "state", b.State.GetPayload(), nil
	case *pluginv1.HostFrame_Reply:
		name, bytes, b.Reply.Payload = "reply", b.Reply.GetPayload(), nil
	}
	if wire, err = proto.Marshal(f); err != nil {
		return nil, nil, err
	}
	if frame, err = r.decode("plugin.v1.HostFrame", wire); err != nil || name == "" {
		return frame, nil, err
	}
	if payloads[name] == "" {
		return nil, nil, fmt.Errorf("version 1 has no call %s", name)
	}
	payload, err = r.decode(payloads[name], bytes)
	return frame, payload, err
}

func (r *replay) decode(name string, wire []byte) (proto.Message, error) {
	d, err := r.files.FindDescriptorByName(protoreflect.FullName("sluice." + name))
	if err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	return m, proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(wire, m)
}

type service struct {
	goplugin.NetRPCUnsupportedPlugin
	r *replay
}

// GRPCServer registers the service.
func (s *service) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	pluginv1.RegisterPluginServer(g, s.r)
	return nil
}

// GRPCClient is not used.
func (*service) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}
