// Command launch_exec is the plugin launch/exec: it runs steps as processes of
// their users, each step under a supervisor (slurmstepd) of its own.
//
// The plugin keeps no truth. Supervisors outlive it and slurmd, and write what
// happens to the step's directory; a new plugin finds them by Recover. Option
// stepd is the path of slurmstepd; without it, slurmstepd is looked for beside
// the plugin.
package main

func main() {}
