// Package sdk is the contract between Sluice and everybody else: who writes a
// plugin, a command or a tool needs this tree and nothing else of Sluice's. It
// has no code; read its packages in this order.
//
// The nouns:
//
//   - [github.com/sluice-hpc/sluice/sdk/wlm]: Job, Spec, Node, Partition, ids,
//     states, reasons, and the grammars that users type.
//   - [github.com/sluice-hpc/sluice/sdk/errs]: what can go wrong, once for every
//     room and every wire.
//   - [github.com/sluice-hpc/sluice/sdk/hostlist]: nid[001-128].
//
// A plugin is a value of its kind's interface, served by one line of main. The
// kinds, each with a conformance suite in a package of the same name and "test":
//
//   - [github.com/sluice-hpc/sluice/sdk/sched]: which jobs to try, in which order.
//   - [github.com/sluice-hpc/sluice/sdk/selector]: which nodes, CPUs and memory they get.
//   - [github.com/sluice-hpc/sluice/sdk/priority]: their priorities.
//   - [github.com/sluice-hpc/sluice/sdk/jobsubmit]: what may be submitted.
//   - [github.com/sluice-hpc/sluice/sdk/launch]: how a node runs a step.
//   - [github.com/sluice-hpc/sluice/sdk/acctstore]: where accounting is kept.
//
// What they stand on:
//
//   - [github.com/sluice-hpc/sluice/sdk/plugin]: Serve, the manifest, options, logs.
//   - [github.com/sluice-hpc/sluice/sdk/mirror]: the plugin's copy of the cluster,
//     and the View that the first three kinds decide upon.
//   - sdk/python: the same for plugins in Python.
//   - [github.com/sluice-hpc/sluice/sdk/client]: the controller's API for tools.
//   - sdk/proto: the wire. It is append-only: make gen refuses a change that an
//     older peer would misread.
//
// "sluice plugin new sched mine" writes a plugin to begin with; the guide is
// contrib/docs/guide/plugins.md, the reference contrib/docs/reference/plugins.
//
// Packages here import nothing of Sluice outside of sdk. What sdk itself needs
// is listed in contrib/lint/sdk-deps.txt and held by a test.
package sdk
