// Command reference writes contrib/docs/reference/plugins: a page for each kind
// of plugin, with every message, field, unit, error and ordering rule, made from
// the .proto files, the Go contract beside them and glossary.txt. It reads a
// descriptor set with source information from standard input (make gen).
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

//go:embed glossary.txt
var glossaryText string

// call is a method of a kind.
type call struct{ name, request, reply, rule string }

// kind is a page.
type kind struct {
	name, folder, proto string // as slurm.conf, sdk and sdk/proto write it
	serial              bool
	calls               []call
	rules               []string
}

const (
	inOrder = "One call at a time, in the order sent, between two changes of the mirror: a call that names a rev sees exactly that rev, " +
		"or fails with \"wrong state\"."
	atOnce  = "Calls arrive while others run and may be answered in any order."
	expects = "The host tells the time that is left for a call (deadline_ms). When it is over the answer is dropped; after three overruns in a row the plugin is started anew."
)

var kinds = []kind{
	{"sched", "sched", "sched", true, []call{{"Plan", "sched.PlanRequest", "sched.Agenda", "once a pass"}}, []string{
		inOrder, expects,
		"The agenda is only a proposal: jobs that are gone, run already or are not ready are left out; a job listed twice counts once.",
		"An error means that the plugin is broken, not that the cluster is full: the pass ends and is tried again."}},
	{"select", "selector", "selector", true, []call{
		{"Place", "selector.PlaceRequest", "selector.PlaceReply", "once a pass, after sched.Plan"},
		{"WhatIf", "selector.WhatIfRequest", "selector.PlaceReply", "for a forecast; starts nothing"}}, []string{
		inOrder, expects,
		"Placements are checked against the cluster as it is when they arrive, in their order; those that do not hold are refused, and named with the reason in the next pass.",
		"Jobs without a placement or a verdict keep the reason they had."}},
	{"priority", "priority", "priority", true, []call{{"Rank", "priority.RankRequest", "priority.RankReply", "for new jobs, and for all when priorities age"}}, []string{
		inOrder, expects,
		"Columns of different lengths are refused whole. A priority of 0 would mean held and is refused.",
		"Jobs that the answer leaves out keep their priority."}},
	{"job_submit", "jobsubmit", "jobsubmit", false, []call{
		{"Submit", "jobsubmit.Request", "jobsubmit.Reply", "for each submission, before it is accepted"},
		{"Modify", "jobsubmit.Request", "jobsubmit.Reply", "for each job that scontrol update changes"}}, []string{
		atOnce,
		"Several filters are asked in the order of JobSubmitPlugins, each with what the one before made of the request; the first refusal ends it.",
		"A refusal is a reply with refused set, not an error. An error, or no answer in time, is no decision: on_failure in PluginOptions says whether the request passes.",
		"Whose job it is cannot be changed: user, group and their names are put back.",
		"While a call runs the plugin may ask the host Partitions (no payload, answer PartitionsReply)."}},
	{"launch", "launch", "launch", false, []call{
		{"Recover", "launch.RecoverRequest", "launch.RecoverReply", "first, after each start of the plugin"},
		{"Watch", "launch.WatchRequest", "a stream of launch.Happening", "always one is under way; the first item may be empty"},
		{"Launch", "launch.LaunchRequest", "launch.LaunchReply", "once for a step's share of a node"},
		{"Signal", "launch.SignalRequest", "launch.Empty", "any number of times"},
		{"Stats", "launch.StepRef", "launch.StatsReply", "for sstat"},
		{"Forget", "launch.ForgetRequest", "launch.Empty", "when the node has recorded the step's end"}}, []string{
		atOnce,
		"What was launched outlives the plugin. After a restart Recover finds it, and Watch may tell again what it told before.",
		"Of one step, task ends are told before the step's own; StepGone comes when no process of it is left.",
		"Items of Watch need credit: 16 at first, one more for each that the host has taken.",
		"A step that is not known is \"not found\"."}},
	{"accounting_storage", "acctstore", "acctstore", false, []call{
		{"Append", "acctstore.AppendRequest", "acctstore.AppendReply", "in batches, numbers rising"},
		{"Jobs", "acctstore.Query", "a stream of acctstore.JobsReply", "for sacct and its like"}}, []string{
		"Append calls of one cluster come one after the other; queries run at the same time.",
		"Append answers once the batch is durable. Records may come again, and in any order, after a restart of either side; the outcome is the same.",
		"An error of Append means that nothing of the batch is stored: it comes again, forever.",
		"Items of Jobs need credit: 16 at first, one more for each that the host has taken."}},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: reference DIRECTORY < descriptors")
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		log.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		log.Fatal(err)
	}
	b := &book{glossary: map[string]string{}, byPackage: map[string]protoreflect.FileDescriptor{}}
	for line := range strings.Lines(glossaryText) {
		if key, text, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			b.glossary[key] = text
		}
	}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		b.byPackage[short(f.FullName())] = f
		return true
	})
	pages := map[string]string{"session.md": b.session()}
	for _, k := range kinds {
		pages[k.name+".md"] = b.page(k)
	}
	if len(b.missing) > 0 {
		log.Fatalf("reference: say behind these fields in their .proto what they are, with the unit:\n  %s", strings.Join(b.missing, "\n  "))
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// short is a package's or message's name without "sluice." and ".v1".
func short(name protoreflect.FullName) string {
	return strings.Replace(strings.TrimPrefix(string(name), "sluice."), ".v1", "", 1)
}

type book struct {
	glossary  map[string]string
	byPackage map[string]protoreflect.FileDescriptor
	missing   []string
}

const generated = "\nGenerated from sdk/proto and sdk by make gen; do not edit.\n"

func (b *book) page(k kind) string {
	var w bytes.Buffer
	fmt.Fprintf(&w, "# Plugins of the kind %s\n%s\n", k.name, generated)
	pkg, fset := goPackage("sdk/" + k.folder)
	fmt.Fprintf(&w, "%s\nEvery plugin speaks the [session](session.md), which carries these calls.\n\n## Calls\n\nContract version 1.\n\n", prose(pkg.Doc))
	w.WriteString("| method | request | reply | when |\n|---|---|---|---|\n")
	for _, c := range k.calls {
		fmt.Fprintf(&w, "| %s | %s | %s | %s |\n", c.name, c.request, c.reply, c.rule)
	}
	w.WriteString("\n## Order and failure\n\n")
	for _, r := range k.rules {
		fmt.Fprintf(&w, "- %s\n", r)
	}
	w.WriteString("- A method that the plugin does not have is answered with \"not supported\", a payload that is no message with an error; both leave it alive.\n")
	fmt.Fprintf(&w, "\n## In Go\n\n%s\n## Messages\n", contract(pkg, fset))
	b.messages(&w, k)
	return w.String()
}

// messages writes all messages that the kind's calls can reach, in the order
// they are met.
func (b *book) messages(w *bytes.Buffer, k kind) {
	var list []protoreflect.MessageDescriptor
	add := func(m protoreflect.MessageDescriptor) {
		if !slices.Contains(list, m) && !m.IsMapEntry() {
			list = append(list, m)
		}
	}
	own := b.byPackage[k.proto].Messages()
	for i := range own.Len() {
		add(own.Get(i))
	}
	if k.serial {
		add(b.byPackage["mirror"].Messages().ByName("Frame"))
	}
	for i := 0; i < len(list); i++ {
		for j := range list[i].Fields().Len() {
			f := list[i].Fields().Get(j)
			if f.Message() != nil {
				add(f.Message())
			}
			if f.IsMap() && f.MapValue().Message() != nil {
				add(f.MapValue().Message())
			}
		}
	}
	for _, m := range list {
		b.message(w, m)
	}
}

func comment(d protoreflect.Descriptor) string {
	l := d.ParentFile().SourceLocations().ByDescriptor(d)
	return strings.TrimSpace(l.LeadingComments + " " + l.TrailingComments)
}

func (b *book) message(w *bytes.Buffer, m protoreflect.MessageDescriptor) {
	fmt.Fprintf(w, "\n### %s\n\n", short(m.FullName()))
	if text := comment(m); text != "" {
		fmt.Fprintf(w, "%s\n\n", text)
	}
	if m.Fields().Len() == 0 {
		w.WriteString("It has no fields.\n")
		return
	}
	w.WriteString("| no. | field | type | |\n|---|---|---|---|\n")
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		fmt.Fprintf(w, "| %d | %s | %s | %s |\n", f.Number(), f.Name(), typeOf(f), cell(b.meaning(f)))
	}
	for i := range m.Enums().Len() {
		e := m.Enums().Get(i)
		fmt.Fprintf(w, "\n%s:\n\n", short(e.FullName()))
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			fmt.Fprintf(w, "- %d %s: %s\n", v.Number(), v.Name(), cell(comment(v)))
		}
	}
}

// meaning is what a field is: its own comment, or the glossary's; the nouns of
// sdk/wlm and the events explain themselves there.
func (b *book) meaning(f protoreflect.FieldDescriptor) string {
	if text := comment(f); text != "" {
		return text
	}
	name := short(f.FullName())
	for _, key := range []string{name, "*." + string(f.Name())} {
		if text := b.glossary[key]; text != "" {
			return text
		}
	}
	if pkg, _, _ := strings.Cut(name, "."); pkg != "wlm" && pkg != "event" {
		b.missing = append(b.missing, name)
	}
	return ""
}

func typeOf(f protoreflect.FieldDescriptor) string {
	if f.IsMap() {
		return fmt.Sprintf("map of %s to %s", f.MapKey().Kind(), scalar(f.MapValue()))
	}
	if f.IsList() {
		return "list of " + scalar(f)
	}
	return scalar(f)
}

func scalar(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return short(f.Message().FullName())
	case f.Enum() != nil:
		return short(f.Enum().FullName())
	}
	return f.Kind().String()
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// goPackage parses a package of this tree.
func goPackage(dir string) (*doc.Package, *token.FileSet) {
	set := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		log.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			log.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, "github.com/sluice-hpc/sluice/"+dir)
	if err != nil {
		log.Fatal(err)
	}
	return p, set
}

// contract prints the interfaces of a kind with their comments, which hold for
// plugins in every language.
func contract(p *doc.Package, set *token.FileSet) string {
	var w bytes.Buffer
	for _, t := range p.Types {
		spec, ok := t.Decl.Specs[0].(*ast.TypeSpec)
		if !ok {
			continue
		}
		if _, ok := spec.Type.(*ast.InterfaceType); !ok {
			continue
		}
		fmt.Fprintf(&w, "%s\n```go\n", prose(t.Doc))
		t.Decl.Doc = nil
		if err := printer.Fprint(&w, set, &printer.CommentedNode{Node: t.Decl}); err != nil {
			log.Fatal(err)
		}
		w.WriteString("\n```\n")
	}
	return w.String()
}

// prose takes Go's links out of a comment.
func prose(s string) string { return strings.NewReplacer("[", "", "]", "").Replace(s) }

// session is the page about what all plugins speak.
func (b *book) session() string {
	var w bytes.Buffer
	fmt.Fprintf(&w, "# The session of every plugin\n%s\n%s\n", generated, sessionText)
	w.WriteString("## Errors\n\nThe numbers of CallError.kind say what the host does about an error; code is one of Slurm's numbers, see sdk/errs.\n\n" +
		"| no. | kind | |\n|---|---|---|\n")
	p, _ := goPackage("sdk/errs")
	for _, t := range p.Types {
		if t.Name != "Kind" {
			continue
		}
		for _, group := range t.Consts {
			for i, s := range group.Decl.Specs {
				v := s.(*ast.ValueSpec)
				fmt.Fprintf(&w, "| %d | %s | %s |\n", i, v.Names[0].Name, cell(v.Comment.Text()))
			}
		}
	}
	w.WriteString("\n## Messages\n")
	list := b.byPackage["plugin"].Messages()
	for i := range list.Len() {
		b.message(&w, list.Get(i))
	}
	return w.String()
}

const sessionText = `A plugin is a program named KIND_NAME. A daemon starts it with an environment of its own, in a
process group of its own, perhaps as another user, and with limits. What it prints is logged.

## Start

1. The environment has SLUICE_PLUGIN=session-v1 (without it: say what the program is and exit with
   status 1) and PLUGIN_UNIX_SOCKET_DIR, the directory for its socket.
2. Descriptor 3 is the lifeline, the read end of a pipe. When it closes, the host is gone: exit at once.
3. Listen on a Unix socket in that directory, then print one line on stdout and flush it:
   1|1|unix|PATH|grpc|
4. Serve the gRPC service sluice.plugin.v1.Plugin: Manifest, then one Session. A second Session of a
   process is refused.

SIGTERM, SIGINT and SIGHUP reach a whole service at once: ignore them, the host decides.

## Order

- The host's first frame is Open, the plugin's first is Opened. An option that the manifest does not
  have is refused by name.
- Frames are at most 512 KiB; longer payloads are cut into pieces with more set, which nothing of the
  same call comes between.
- Frames of another epoch are dropped.
- State frames are applied in their order. Each one that ends with done is answered with Synced; one
  that does not fit, with Synced and resend. A State without a payload is a health check: Synced at
  once, also while a call runs.
- Calls of the kinds sched, select and priority are made one after the other, between State frames, in
  the order sent. Calls of the others run at the same time.
- After Cancel no reply is expected, but one does no harm. After Drain finish what runs, take nothing
  new, and end the stream.

`
