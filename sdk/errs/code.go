package errs

// Code is an error number with a text that Slurm's users know. The numbers
// are those of slurm_strerror(3) where a command's exit status shows them;
// those from 9000 are ours.
type Code uint16

// The codes. Append only.
const (
	InvalidPartition      Code = 2000
	NoDefaultPartition    Code = 2001
	AccessDenied          Code = 2002
	PartitionGroup        Code = 2003
	NodesNotInPartition   Code = 2004
	TooManyCPUs           Code = 2005
	InvalidNodeCount      Code = 2006
	JobScriptMissing      Code = 2009
	UserIDMissing         Code = 2010
	PathTooLong           Code = 2012
	NodeConfigUnavailable Code = 2014
	PartConfigUnavailable Code = 2015
	PartitionNotAvailable Code = 2122
	NodesBusy             Code = 2016
	InvalidJobID          Code = 2017
	InvalidNodeName       Code = 2018
	WriteFailed           Code = 2019
	TransitionState       Code = 2020
	AlreadyDone           Code = 2021
	BadDistribution       Code = 2023
	JobPending            Code = 2024
	BadTaskCount          Code = 2025
	InvalidCredential     Code = 2026
	StandbyMode           Code = 2027
	InvalidNodeState      Code = 2028
	InvalidFeature        Code = 2029
	InvalidAuth           Code = 2030
	ThreadFailure         Code = 2031
	JobSuspended          Code = 2032
	InvalidGres           Code = 2072
	InvalidTimeLimit      Code = 2051
	DependencyProblem     Code = 2042
	InvalidAccount        Code = 2045
	InvalidQOS            Code = 2066
	InvalidArray          Code = 2069
	InvalidLicenses       Code = 2048
	InvalidCPUCount       Code = 2059
	NotSupported          Code = 2050
	JobNotPending         Code = 2052
	JobNotRunning         Code = 2053
	AllocNodeDenied       Code = 2054
	ReservationInvalid    Code = 2055
	InvalidNice           Code = 2056
	InvalidMemory         Code = 2044
	MaxJobCount           Code = 2058
	Disabled              Code = 2057
	InvalidStep           Code = 2087
	InvalidReason         Code = 9000
	StateSaveFull         Code = 9001
	SubmitRefused         Code = 9002
	ControllerUnreachable Code = 9003
	CircularDependency    Code = 9020
	BadBeginTime          Code = 9004
	UnknownPlugin         Code = 9005
	InvalidOption         Code = 9006
	ScriptTooLarge        Code = 9007
	JobHeld               Code = 9008
	NodeNotResponding     Code = 9009
	DuplicateSubmission   Code = 9010
	ReservationAccess     Code = 9060
	ActiveFeatures        Code = 9170
	InvalidBatch          Code = 9171
	InvalidPrefer         Code = 9172
	ReservationBusy       Code = 9061
	ReservationOverlap    Code = 9062
	ReservationEmpty      Code = 9063
	ReservationDuplicate  Code = 9064
	ReservationStarted    Code = 9065
	ReservationNoSkip     Code = 9066
	ReservationCores      Code = 9067
	ReservationCoreCount  Code = 9068
	ReservationUsers      Code = 9069
	GroupIDMissing        Code = 9075
	InvalidTime           Code = 9070
)

var codes = map[Code]struct {
	kind Kind
	text string
}{
	InvalidPartition:      {Invalid, "Invalid partition name specified"},
	NoDefaultPartition:    {Invalid, "No partition specified or system default partition"},
	AccessDenied:          {Denied, "Access/permission denied"},
	PartitionGroup:        {Denied, "User's group not permitted to use this partition"},
	NodesNotInPartition:   {Invalid, "Requested nodes not in this partition"},
	TooManyCPUs:           {Invalid, "More processors requested than permitted"},
	InvalidNodeCount:      {Invalid, "Node count specification invalid"},
	JobScriptMissing:      {Invalid, "Job script not specified in batch job submission"},
	UserIDMissing:         {Denied, "Invalid user id"},
	PathTooLong:           {Invalid, "Pathname of a file, directory or other parameter too long"},
	NodeConfigUnavailable: {Invalid, "Requested node configuration is not available"},
	PartitionNotAvailable: {State, "Required partition not available (inactive or drain)"},
	PartConfigUnavailable: {Invalid, "Requested partition configuration not available now"},
	NodesBusy:             {Busy, "Requested nodes are busy"},
	InvalidJobID:          {NotFound, "Invalid job id specified"},
	InvalidNodeName:       {NotFound, "Invalid node name specified"},
	WriteFailed:           {Internal, "I/O error writing script/environment to file"},
	TransitionState:       {State, "Job can not be altered now, try again later"},
	AlreadyDone:           {State, "Job/step already completing or completed"},
	BadDistribution:       {Invalid, "Task distribution specification invalid"},
	JobPending:            {State, "Job is pending execution"},
	BadTaskCount:          {Invalid, "Task count specification invalid"},
	InvalidCredential:     {Denied, "Invalid job credential"},
	StandbyMode:           {Unavail, "Slurm backup controller in standby mode"},
	InvalidNodeState:      {Invalid, "Invalid node state specified"},
	InvalidFeature:        {Invalid, "Invalid feature specification"},
	ActiveFeatures:        {Invalid, "Active features not subset of available features"},
	InvalidBatch:          {Invalid, "Job --batch option is invalid or not a subset of --constraints"},
	InvalidPrefer:         {Invalid, "Invalid preferred feature specification"},
	InvalidAuth:           {Unauth, "Protocol authentication error"},
	ThreadFailure:         {Internal, "Unable to create a thread for the request"},
	JobSuspended:          {State, "Job is currently suspended"},
	InvalidGres:           {Invalid, "Invalid generic resource (gres) specification"},
	InvalidTimeLimit:      {Invalid, "Requested time limit is invalid (missing or exceeds some limit)"},
	DependencyProblem:     {Invalid, "Job dependency problem"},
	InvalidAccount:        {Invalid, "Invalid account or account/partition combination specified"},
	InvalidQOS:            {Invalid, "Invalid qos specification"},
	InvalidArray:          {Invalid, "Invalid job array specification"},
	InvalidLicenses:       {Invalid, "Invalid license specification"},
	InvalidCPUCount:       {Invalid, "CPU count specification invalid"},
	NotSupported:          {Unsupport, "Requested operation not supported on this system"},
	JobNotPending:         {State, "Job is no longer pending execution"},
	JobNotRunning:         {State, "Job is not running"},
	AllocNodeDenied:       {Denied, "Access/permission denied: submission from this host is not allowed by the partition's AllocNodes"},
	ReservationInvalid:    {Invalid, "Requested reservation is invalid"},
	InvalidNice:           {Invalid, "Invalid --nice value"},
	InvalidMemory:         {Invalid, "Memory required by task is not available"},
	MaxJobCount:           {Exhausted, "Slurm temporarily unable to accept job, sleeping and retrying"},
	Disabled:              {Unsupport, "Requested operation is presently disabled"},
	InvalidStep:           {NotFound, "Invalid job step id specified"},
	InvalidReason:         {Invalid, "You must specify a reason when DOWNING or DRAINING a node. Request denied"},
	StateSaveFull:         {Exhausted, "No space left under StateSaveLocation: submissions are refused, running jobs go on"},
	SubmitRefused:         {Invalid, "Job submission refused"},
	ControllerUnreachable: {Unavail, "Unable to contact slurm controller (connect failure)"},
	CircularDependency:    {Invalid, "Circular job dependency"},
	BadBeginTime:          {Invalid, "Invalid begin time specified"},
	UnknownPlugin:         {NotFound, "No such plugin"},
	InvalidOption:         {Invalid, "Invalid option or value"},
	ScriptTooLarge:        {Invalid, "Job script exceeds the size limit"},
	JobHeld:               {State, "Job is held"},
	NodeNotResponding:     {Unavail, "Node is not responding"},
	DuplicateSubmission:   {Exists, "This submission was accepted before"},
	ReservationAccess:     {Denied, "Access denied to requested reservation"},
	ReservationBusy:       {State, "Requested reservation is in use"},
	ReservationOverlap:    {State, "Requested reservation overlaps with another reservation"},
	ReservationEmpty:      {Invalid, "Reservation request lacks users, groups or accounts"},
	ReservationDuplicate:  {Exists, "Duplicate reservation name"},
	ReservationStarted:    {State, "Reservation already started"},
	ReservationNoSkip:     {State, "Reservation given is not skipable, try deleting instead"},
	ReservationCores:      {Invalid, "Core-based reservation can not be updated"},
	ReservationCoreCount:  {Invalid, "Core count for reservation node list is not consistent!"},
	GroupIDMissing:        {Invalid, "Invalid group id"},
	ReservationUsers:      {Invalid, "Reservations can't have users and groups specified, only one or the other"},
	InvalidTime:           {Invalid, "Invalid time specified"},
}

// String is the text that Slurm prints for the number.
func (c Code) String() string {
	if e, ok := codes[c]; ok {
		return e.text
	}
	return "Unspecified error"
}

// Kind says what a caller does about an error with this code.
func (c Code) Kind() Kind { return codes[c].kind }

// ExitStatus is what commands that exit with the error number exit with.
func (c Code) ExitStatus() int { return int(c) & 0xff }
