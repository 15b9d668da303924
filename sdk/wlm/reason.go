package wlm

import "strings"

// Reason says why a job waits, or why it ended as it did. The order and the
// spellings are Slurm 25.11's, irregularities included: tools match them.
type Reason uint16

// The reasons, in the order of Slurm's own list.
const (
	ReasonNone                      Reason = iota // None
	WaitProlog                                    // Prolog
	WaitPriority                                  // Priority
	WaitDependency                                // Dependency
	WaitResources                                 // Resources
	WaitPartNodeLimit                             // PartitionNodeLimit
	WaitPartTimeLimit                             // PartitionTimeLimit
	WaitPartDown                                  // PartitionDown
	WaitPartInactive                              // PartitionInactive
	WaitHeld                                      // JobHeldAdmin
	WaitHeldUser                                  // JobHeldUser
	WaitNvidiaImexChannels                        // NvidiaImexChannels
	WaitTime                                      // BeginTime
	WaitLicenses                                  // Licenses
	WaitAssocJobLimit                             // AssociationJobLimit
	WaitAssocResourceLimit                        // AssociationResourceLimit
	WaitAssocTimeLimit                            // AssociationTimeLimit
	WaitReservation                               // Reservation
	WaitNodeNotAvail                              // ReqNodeNotAvail
	FailDefer                                     // SchedDefer
	FailDownPartition                             // PartitionDown
	FailDownNode                                  // NodeDown
	FailBadConstraints                            // BadConstraints
	FailSystem                                    // SystemFailure
	FailLaunch                                    // JobLaunchFailure
	FailExitCode                                  // NonZeroExitCode
	FailSignal                                    // RaisedSignal
	FailTimeout                                   // TimeLimit
	FailInactiveLimit                             // InactiveLimit
	FailAccount                                   // InvalidAccount
	FailQos                                       // InvalidQOS
	WaitQosThres                                  // QOSUsageThreshold
	WaitQosJobLimit                               // QOSJobLimit
	WaitQosResourceLimit                          // QOSResourceLimit
	WaitQosTimeLimit                              // QOSTimeLimit
	WaitCleaning                                  // Cleaning
	WaitQos                                       // QOSNotAllowed
	WaitAccount                                   // AccountNotAllowed
	WaitDepInvalid                                // DependencyNeverSatisfied
	WaitQosGrpCpu                                 // QOSGrpCpuLimit
	WaitQosGrpCpuMin                              // QOSGrpCPUMinutesLimit
	WaitQosGrpCpuRunMin                           // QOSGrpCPURunMinutesLimit
	WaitQosGrpJob                                 // QOSGrpJobsLimit
	WaitQosGrpMem                                 // QOSGrpMemLimit
	WaitQosGrpNode                                // QOSGrpNodeLimit
	WaitQosGrpSubJob                              // QOSGrpSubmitJobsLimit
	WaitQosGrpWall                                // QOSGrpWallLimit
	WaitQosMaxCpuPerJob                           // QOSMaxCpuPerJobLimit
	WaitQosMaxCpuMinsPerJob                       // QOSMaxCpuMinutesPerJobLimit
	WaitQosMaxNodePerJob                          // QOSMaxNodePerJobLimit
	WaitQosMaxWallPerJob                          // QOSMaxWallDurationPerJobLimit
	WaitQosMaxCpuPerUser                          // QOSMaxCpuPerUserLimit
	WaitQosMaxJobPerUser                          // QOSMaxJobsPerUserLimit
	WaitQosMaxNodePerUser                         // QOSMaxNodePerUserLimit
	WaitQosMaxSubJob                              // QOSMaxSubmitJobPerUserLimit
	WaitQosMinCpu                                 // QOSMinCpuNotSatisfied
	WaitAssocGrpCpu                               // AssocGrpCpuLimit
	WaitAssocGrpCpuMin                            // AssocGrpCPUMinutesLimit
	WaitAssocGrpCpuRunMin                         // AssocGrpCPURunMinutesLimit
	WaitAssocGrpJob                               // AssocGrpJobsLimit
	WaitAssocGrpMem                               // AssocGrpMemLimit
	WaitAssocGrpNode                              // AssocGrpNodeLimit
	WaitAssocGrpSubJob                            // AssocGrpSubmitJobsLimit
	WaitAssocGrpWall                              // AssocGrpWallLimit
	WaitAssocMaxJobs                              // AssocMaxJobsLimit
	WaitAssocMaxCpuPerJob                         // AssocMaxCpuPerJobLimit
	WaitAssocMaxCpuMinsPerJob                     // AssocMaxCpuMinutesPerJobLimit
	WaitAssocMaxNodePerJob                        // AssocMaxNodePerJobLimit
	WaitAssocMaxWallPerJob                        // AssocMaxWallDurationPerJobLimit
	WaitAssocMaxSubJob                            // AssocMaxSubmitJobLimit
	WaitMaxRequeue                                // JobHoldMaxRequeue
	WaitArrayTaskLimit                            // JobArrayTaskLimit
	WaitBurstBufferResource                       // BurstBufferResources
	WaitBurstBufferStaging                        // BurstBufferStageIn
	FailBurstBufferOp                             // BurstBufferOperation
	WaitAssocGrpUnk                               // AssocGrpUnknown
	WaitAssocGrpUnkMin                            // AssocGrpUnknownMinutes
	WaitAssocGrpUnkRunMin                         // AssocGrpUnknownRunMinutes
	WaitAssocMaxUnkPerJob                         // AssocMaxUnknownPerJob
	WaitAssocMaxUnkPerNode                        // AssocMaxUnknownPerNode
	WaitAssocMaxUnkMinsPerJob                     // AssocMaxUnknownMinutesPerJob
	WaitAssocMaxCpuPerNode                        // AssocMaxCpuPerNode
	WaitAssocGrpMemMin                            // AssocGrpMemMinutes
	WaitAssocGrpMemRunMin                         // AssocGrpMemRunMinutes
	WaitAssocMaxMemPerJob                         // AssocMaxMemPerJob
	WaitAssocMaxMemPerNode                        // AssocMaxMemPerNode
	WaitAssocMaxMemMinsPerJob                     // AssocMaxMemMinutesPerJob
	WaitAssocGrpNodeMin                           // AssocGrpNodeMinutes
	WaitAssocGrpNodeRunMin                        // AssocGrpNodeRunMinutes
	WaitAssocMaxNodeMinsPerJob                    // AssocMaxNodeMinutesPerJob
	WaitAssocGrpEnergy                            // AssocGrpEnergy
	WaitAssocGrpEnergyMin                         // AssocGrpEnergyMinutes
	WaitAssocGrpEnergyRunMin                      // AssocGrpEnergyRunMinutes
	WaitAssocMaxEnergyPerJob                      // AssocMaxEnergyPerJob
	WaitAssocMaxEnergyPerNode                     // AssocMaxEnergyPerNode
	WaitAssocMaxEnergyMinsPerJob                  // AssocMaxEnergyMinutesPerJob
	WaitAssocGrpGres                              // AssocGrpGRES
	WaitAssocGrpGresMin                           // AssocGrpGRESMinutes
	WaitAssocGrpGresRunMin                        // AssocGrpGRESRunMinutes
	WaitAssocMaxGresPerJob                        // AssocMaxGRESPerJob
	WaitAssocMaxGresPerNode                       // AssocMaxGRESPerNode
	WaitAssocMaxGresMinsPerJob                    // AssocMaxGRESMinutesPerJob
	WaitAssocGrpLic                               // AssocGrpLicense
	WaitAssocGrpLicMin                            // AssocGrpLicenseMinutes
	WaitAssocGrpLicRunMin                         // AssocGrpLicenseRunMinutes
	WaitAssocMaxLicPerJob                         // AssocMaxLicensePerJob
	WaitAssocMaxLicMinsPerJob                     // AssocMaxLicenseMinutesPerJob
	WaitAssocGrpBb                                // AssocGrpBB
	WaitAssocGrpBbMin                             // AssocGrpBBMinutes
	WaitAssocGrpBbRunMin                          // AssocGrpBBRunMinutes
	WaitAssocMaxBbPerJob                          // AssocMaxBBPerJob
	WaitAssocMaxBbPerNode                         // AssocMaxBBPerNode
	WaitAssocMaxBbMinsPerJob                      // AssocMaxBBMinutesPerJob
	WaitQosGrpUnk                                 // QOSGrpUnknown
	WaitQosGrpUnkMin                              // QOSGrpUnknownMinutes
	WaitQosGrpUnkRunMin                           // QOSGrpUnknownRunMinutes
	WaitQosMaxUnkPerJob                           // QOSMaxUnknownPerJob
	WaitQosMaxUnkPerNode                          // QOSMaxUnknownPerNode
	WaitQosMaxUnkPerUser                          // QOSMaxUnknownPerUser
	WaitQosMaxUnkMinsPerJob                       // QOSMaxUnknownMinutesPerJob
	WaitQosMinUnk                                 // QOSMinUnknown
	WaitQosMaxCpuPerNode                          // QOSMaxCpuPerNode
	WaitQosGrpMemMin                              // QOSGrpMemoryMinutes
	WaitQosGrpMemRunMin                           // QOSGrpMemoryRunMinutes
	WaitQosMaxMemPerJob                           // QOSMaxMemoryPerJob
	WaitQosMaxMemPerNode                          // QOSMaxMemoryPerNode
	WaitQosMaxMemPerUser                          // QOSMaxMemoryPerUser
	WaitQosMaxMemMinsPerJob                       // QOSMaxMemoryMinutesPerJob
	WaitQosMinMem                                 // QOSMinMemory
	WaitQosGrpNodeMin                             // QOSGrpNodeMinutes
	WaitQosGrpNodeRunMin                          // QOSGrpNodeRunMinutes
	WaitQosMaxNodeMinsPerJob                      // QOSMaxNodeMinutesPerJob
	WaitQosMinNode                                // QOSMinNode
	WaitQosGrpEnergy                              // QOSGrpEnergy
	WaitQosGrpEnergyMin                           // QOSGrpEnergyMinutes
	WaitQosGrpEnergyRunMin                        // QOSGrpEnergyRunMinutes
	WaitQosMaxEnergyPerJob                        // QOSMaxEnergyPerJob
	WaitQosMaxEnergyPerNode                       // QOSMaxEnergyPerNode
	WaitQosMaxEnergyPerUser                       // QOSMaxEnergyPerUser
	WaitQosMaxEnergyMinsPerJob                    // QOSMaxEnergyMinutesPerJob
	WaitQosMinEnergy                              // QOSMinEnergy
	WaitQosGrpGres                                // QOSGrpGRES
	WaitQosGrpGresMin                             // QOSGrpGRESMinutes
	WaitQosGrpGresRunMin                          // QOSGrpGRESRunMinutes
	WaitQosMaxGresPerJob                          // QOSMaxGRESPerJob
	WaitQosMaxGresPerNode                         // QOSMaxGRESPerNode
	WaitQosMaxGresPerUser                         // QOSMaxGRESPerUser
	WaitQosMaxGresMinsPerJob                      // QOSMaxGRESMinutesPerJob
	WaitQosMinGres                                // QOSMinGRES
	WaitQosGrpLic                                 // QOSGrpLicense
	WaitQosGrpLicMin                              // QOSGrpLicenseMinutes
	WaitQosGrpLicRunMin                           // QOSGrpLicenseRunMinutes
	WaitQosMaxLicPerJob                           // QOSMaxLicensePerJob
	WaitQosMaxLicPerUser                          // QOSMaxLicensePerUser
	WaitQosMaxLicMinsPerJob                       // QOSMaxLicenseMinutesPerJob
	WaitQosMinLic                                 // QOSMinLicense
	WaitQosGrpBb                                  // QOSGrpBB
	WaitQosGrpBbMin                               // QOSGrpBBMinutes
	WaitQosGrpBbRunMin                            // QOSGrpBBRunMinutes
	WaitQosMaxBbPerJob                            // QOSMaxBBPerJob
	WaitQosMaxBbPerNode                           // QOSMaxBBPerNode
	WaitQosMaxBbPerUser                           // QOSMaxBBPerUser
	WaitQosMaxBbMinsPerJob                        // AssocMaxBBMinutesPerJob
	WaitQosMinBb                                  // QOSMinBB
	FailDeadline                                  // DeadLine
	WaitQosMaxBbPerAcct                           // MaxBBPerAccount
	WaitQosMaxCpuPerAcct                          // MaxCpuPerAccount
	WaitQosMaxEnergyPerAcct                       // MaxEnergyPerAccount
	WaitQosMaxGresPerAcct                         // MaxGRESPerAccount
	WaitQosMaxNodePerAcct                         // MaxNodePerAccount
	WaitQosMaxLicPerAcct                          // MaxLicensePerAccount
	WaitQosMaxMemPerAcct                          // MaxMemoryPerAccount
	WaitQosMaxUnkPerAcct                          // MaxUnknownPerAccount
	WaitQosMaxJobPerAcct                          // MaxJobsPerAccount
	WaitQosMaxSubJobPerAcct                       // MaxSubmitJobsPerAccount
	WaitPartConfig                                // PartitionConfig
	WaitAccountPolicy                             // AccountingPolicy
	WaitFedJobLock                                // FedJobLock
	FailOom                                       // OutOfMemory
	WaitPnMemLimit                                // MaxMemPerLimit
	WaitAssocGrpBilling                           // AssocGrpBilling
	WaitAssocGrpBillingMin                        // AssocGrpBillingMinutes
	WaitAssocGrpBillingRunMin                     // AssocGrpBillingRunMinutes
	WaitAssocMaxBillingPerJob                     // AssocMaxBillingPerJob
	WaitAssocMaxBillingPerNode                    // AssocMaxBillingPerNode
	WaitAssocMaxBillingMinsPerJob                 // AssocMaxBillingMinutesPerJob
	WaitQosGrpBilling                             // QOSGrpBilling
	WaitQosGrpBillingMin                          // QOSGrpBillingMinutes
	WaitQosGrpBillingRunMin                       // QOSGrpBillingRunMinutes
	WaitQosMaxBillingPerJob                       // QOSMaxBillingPerJob
	WaitQosMaxBillingPerNode                      // QOSMaxBillingPerNode
	WaitQosMaxBillingPerUser                      // QOSMaxBillingPerUser
	WaitQosMaxBillingMinsPerJob                   // QOSMaxBillingMinutesPerJob
	WaitQosMaxBillingPerAcct                      // MaxBillingPerAccount
	WaitQosMinBilling                             // QOSMinBilling
	WaitResvDeleted                               // ReservationDeleted
	WaitResvInvalid                               // ReservationInvalid
	FailConstraints                               // Constraints
	WaitQosMaxBbRunMinsPerAcct                    // MaxBBRunMinsPerAccount
	WaitQosMaxBillingRunMinsPerAcct               // MaxBillingRunMinsPerAccount
	WaitQosMaxCpuRunMinsPerAcct                   // MaxCpuRunMinsPerAccount
	WaitQosMaxEnergyRunMinsPerAcct                // MaxEnergyRunMinsPerAccount
	WaitQosMaxGresRunMinsPerAcct                  // MaxGRESRunMinsPerAccount
	WaitQosMaxNodeRunMinsPerAcct                  // MaxNodeRunMinsPerAccount
	WaitQosMaxLicRunMinsPerAcct                   // MaxLicenseRunMinsPerAccount
	WaitQosMaxMemRunMinsPerAcct                   // MaxMemoryRunMinsPerAccount
	WaitQosMaxUnkRunMinsPerAcct                   // MaxUnknownRunMinsPerAccount
	WaitQosMaxBbRunMinsPerUser                    // MaxBBRunMinsPerUser
	WaitQosMaxBillingRunMinsPerUser               // MaxBillingRunMinsPerUser
	WaitQosMaxCpuRunMinsPerUser                   // MaxCpuRunMinsPerUser
	WaitQosMaxEnergyRunMinsPerUser                // MaxEnergyRunMinsPerUser
	WaitQosMaxGresRunMinsPerUser                  // MaxGRESRunMinsPerUser
	WaitQosMaxNodeRunMinsPerUser                  // MaxNodeRunMinsPerUser
	WaitQosMaxLicRunMinsPerUser                   // MaxLicenseRunMinsPerUser
	WaitQosMaxMemRunMinsPerUser                   // MaxMemoryRunMinsPerUser
	WaitQosMaxUnkRunMinsPerUser                   // MaxUnknownRunMinsPerUser
	WaitMaxPoweredNodes                           // MaxPoweredUpNodes
	WaitMpiPortsBusy                              // MpiPortsBusy

	reasonCount
)

// A ReasonClass groups reasons that are treated alike when the queue is walked.
type ReasonClass uint8

// The classes of a reason, as bits.
const (
	ClassPartition ReasonClass = 1 << iota // a partition's limit or state
	ClassLimit                             // an association's or QOS's limit
	ClassGroup                             // a QOS's group limit
	ClassMisc
)

var reasonTable = [reasonCount]struct {
	text  string
	class ReasonClass
}{
	ReasonNone:                      {"None", 0},
	WaitProlog:                      {"Prolog", 0},
	WaitPriority:                    {"Priority", 0},
	WaitDependency:                  {"Dependency", 0},
	WaitResources:                   {"Resources", 0},
	WaitPartNodeLimit:               {"PartitionNodeLimit", ClassPartition},
	WaitPartTimeLimit:               {"PartitionTimeLimit", ClassPartition},
	WaitPartDown:                    {"PartitionDown", ClassPartition},
	WaitPartInactive:                {"PartitionInactive", ClassPartition},
	WaitHeld:                        {"JobHeldAdmin", 0},
	WaitHeldUser:                    {"JobHeldUser", 0},
	WaitNvidiaImexChannels:          {"NvidiaImexChannels", 0},
	WaitTime:                        {"BeginTime", 0},
	WaitLicenses:                    {"Licenses", 0},
	WaitAssocJobLimit:               {"AssociationJobLimit", ClassLimit},
	WaitAssocResourceLimit:          {"AssociationResourceLimit", ClassLimit},
	WaitAssocTimeLimit:              {"AssociationTimeLimit", ClassLimit},
	WaitReservation:                 {"Reservation", 0},
	WaitNodeNotAvail:                {"ReqNodeNotAvail", ClassMisc},
	FailDefer:                       {"SchedDefer", 0},
	FailDownPartition:               {"PartitionDown", 0},
	FailDownNode:                    {"NodeDown", 0},
	FailBadConstraints:              {"BadConstraints", 0},
	FailSystem:                      {"SystemFailure", 0},
	FailLaunch:                      {"JobLaunchFailure", 0},
	FailExitCode:                    {"NonZeroExitCode", 0},
	FailSignal:                      {"RaisedSignal", 0},
	FailTimeout:                     {"TimeLimit", 0},
	FailInactiveLimit:               {"InactiveLimit", 0},
	FailAccount:                     {"InvalidAccount", ClassMisc},
	FailQos:                         {"InvalidQOS", ClassMisc},
	WaitQosThres:                    {"QOSUsageThreshold", ClassLimit | ClassPartition},
	WaitQosJobLimit:                 {"QOSJobLimit", ClassLimit},
	WaitQosResourceLimit:            {"QOSResourceLimit", ClassLimit},
	WaitQosTimeLimit:                {"QOSTimeLimit", ClassLimit},
	WaitCleaning:                    {"Cleaning", 0},
	WaitQos:                         {"QOSNotAllowed", 0},
	WaitAccount:                     {"AccountNotAllowed", 0},
	WaitDepInvalid:                  {"DependencyNeverSatisfied", 0},
	WaitQosGrpCpu:                   {"QOSGrpCpuLimit", ClassGroup | ClassLimit},
	WaitQosGrpCpuMin:                {"QOSGrpCPUMinutesLimit", ClassGroup | ClassLimit},
	WaitQosGrpCpuRunMin:             {"QOSGrpCPURunMinutesLimit", ClassGroup | ClassLimit},
	WaitQosGrpJob:                   {"QOSGrpJobsLimit", ClassGroup | ClassLimit},
	WaitQosGrpMem:                   {"QOSGrpMemLimit", ClassGroup | ClassLimit},
	WaitQosGrpNode:                  {"QOSGrpNodeLimit", ClassGroup | ClassLimit},
	WaitQosGrpSubJob:                {"QOSGrpSubmitJobsLimit", ClassGroup | ClassLimit},
	WaitQosGrpWall:                  {"QOSGrpWallLimit", ClassGroup | ClassLimit},
	WaitQosMaxCpuPerJob:             {"QOSMaxCpuPerJobLimit", ClassLimit},
	WaitQosMaxCpuMinsPerJob:         {"QOSMaxCpuMinutesPerJobLimit", ClassLimit},
	WaitQosMaxNodePerJob:            {"QOSMaxNodePerJobLimit", ClassLimit},
	WaitQosMaxWallPerJob:            {"QOSMaxWallDurationPerJobLimit", ClassLimit},
	WaitQosMaxCpuPerUser:            {"QOSMaxCpuPerUserLimit", ClassLimit},
	WaitQosMaxJobPerUser:            {"QOSMaxJobsPerUserLimit", ClassLimit},
	WaitQosMaxNodePerUser:           {"QOSMaxNodePerUserLimit", ClassLimit},
	WaitQosMaxSubJob:                {"QOSMaxSubmitJobPerUserLimit", ClassLimit},
	WaitQosMinCpu:                   {"QOSMinCpuNotSatisfied", ClassLimit},
	WaitAssocGrpCpu:                 {"AssocGrpCpuLimit", ClassLimit},
	WaitAssocGrpCpuMin:              {"AssocGrpCPUMinutesLimit", ClassLimit},
	WaitAssocGrpCpuRunMin:           {"AssocGrpCPURunMinutesLimit", ClassLimit},
	WaitAssocGrpJob:                 {"AssocGrpJobsLimit", ClassLimit},
	WaitAssocGrpMem:                 {"AssocGrpMemLimit", ClassLimit},
	WaitAssocGrpNode:                {"AssocGrpNodeLimit", ClassLimit},
	WaitAssocGrpSubJob:              {"AssocGrpSubmitJobsLimit", ClassLimit},
	WaitAssocGrpWall:                {"AssocGrpWallLimit", ClassLimit},
	WaitAssocMaxJobs:                {"AssocMaxJobsLimit", ClassLimit},
	WaitAssocMaxCpuPerJob:           {"AssocMaxCpuPerJobLimit", ClassLimit},
	WaitAssocMaxCpuMinsPerJob:       {"AssocMaxCpuMinutesPerJobLimit", ClassLimit},
	WaitAssocMaxNodePerJob:          {"AssocMaxNodePerJobLimit", ClassLimit},
	WaitAssocMaxWallPerJob:          {"AssocMaxWallDurationPerJobLimit", ClassLimit},
	WaitAssocMaxSubJob:              {"AssocMaxSubmitJobLimit", ClassLimit},
	WaitMaxRequeue:                  {"JobHoldMaxRequeue", 0},
	WaitArrayTaskLimit:              {"JobArrayTaskLimit", 0},
	WaitBurstBufferResource:         {"BurstBufferResources", 0},
	WaitBurstBufferStaging:          {"BurstBufferStageIn", 0},
	FailBurstBufferOp:               {"BurstBufferOperation", 0},
	WaitAssocGrpUnk:                 {"AssocGrpUnknown", ClassLimit},
	WaitAssocGrpUnkMin:              {"AssocGrpUnknownMinutes", ClassLimit},
	WaitAssocGrpUnkRunMin:           {"AssocGrpUnknownRunMinutes", ClassLimit},
	WaitAssocMaxUnkPerJob:           {"AssocMaxUnknownPerJob", ClassLimit},
	WaitAssocMaxUnkPerNode:          {"AssocMaxUnknownPerNode", ClassLimit},
	WaitAssocMaxUnkMinsPerJob:       {"AssocMaxUnknownMinutesPerJob", ClassLimit},
	WaitAssocMaxCpuPerNode:          {"AssocMaxCpuPerNode", ClassLimit},
	WaitAssocGrpMemMin:              {"AssocGrpMemMinutes", ClassLimit},
	WaitAssocGrpMemRunMin:           {"AssocGrpMemRunMinutes", ClassLimit},
	WaitAssocMaxMemPerJob:           {"AssocMaxMemPerJob", ClassLimit},
	WaitAssocMaxMemPerNode:          {"AssocMaxMemPerNode", ClassLimit},
	WaitAssocMaxMemMinsPerJob:       {"AssocMaxMemMinutesPerJob", ClassLimit},
	WaitAssocGrpNodeMin:             {"AssocGrpNodeMinutes", ClassLimit},
	WaitAssocGrpNodeRunMin:          {"AssocGrpNodeRunMinutes", ClassLimit},
	WaitAssocMaxNodeMinsPerJob:      {"AssocMaxNodeMinutesPerJob", ClassLimit},
	WaitAssocGrpEnergy:              {"AssocGrpEnergy", ClassLimit},
	WaitAssocGrpEnergyMin:           {"AssocGrpEnergyMinutes", ClassLimit},
	WaitAssocGrpEnergyRunMin:        {"AssocGrpEnergyRunMinutes", ClassLimit},
	WaitAssocMaxEnergyPerJob:        {"AssocMaxEnergyPerJob", ClassLimit},
	WaitAssocMaxEnergyPerNode:       {"AssocMaxEnergyPerNode", ClassLimit},
	WaitAssocMaxEnergyMinsPerJob:    {"AssocMaxEnergyMinutesPerJob", ClassLimit},
	WaitAssocGrpGres:                {"AssocGrpGRES", ClassLimit},
	WaitAssocGrpGresMin:             {"AssocGrpGRESMinutes", ClassLimit},
	WaitAssocGrpGresRunMin:          {"AssocGrpGRESRunMinutes", ClassLimit},
	WaitAssocMaxGresPerJob:          {"AssocMaxGRESPerJob", ClassLimit},
	WaitAssocMaxGresPerNode:         {"AssocMaxGRESPerNode", ClassLimit},
	WaitAssocMaxGresMinsPerJob:      {"AssocMaxGRESMinutesPerJob", ClassLimit},
	WaitAssocGrpLic:                 {"AssocGrpLicense", ClassLimit},
	WaitAssocGrpLicMin:              {"AssocGrpLicenseMinutes", ClassLimit},
	WaitAssocGrpLicRunMin:           {"AssocGrpLicenseRunMinutes", ClassLimit},
	WaitAssocMaxLicPerJob:           {"AssocMaxLicensePerJob", ClassLimit},
	WaitAssocMaxLicMinsPerJob:       {"AssocMaxLicenseMinutesPerJob", ClassLimit},
	WaitAssocGrpBb:                  {"AssocGrpBB", ClassLimit},
	WaitAssocGrpBbMin:               {"AssocGrpBBMinutes", ClassLimit},
	WaitAssocGrpBbRunMin:            {"AssocGrpBBRunMinutes", ClassLimit},
	WaitAssocMaxBbPerJob:            {"AssocMaxBBPerJob", ClassLimit},
	WaitAssocMaxBbPerNode:           {"AssocMaxBBPerNode", ClassLimit},
	WaitAssocMaxBbMinsPerJob:        {"AssocMaxBBMinutesPerJob", ClassLimit},
	WaitQosGrpUnk:                   {"QOSGrpUnknown", ClassGroup | ClassLimit},
	WaitQosGrpUnkMin:                {"QOSGrpUnknownMinutes", ClassGroup | ClassLimit},
	WaitQosGrpUnkRunMin:             {"QOSGrpUnknownRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxUnkPerJob:             {"QOSMaxUnknownPerJob", ClassLimit},
	WaitQosMaxUnkPerNode:            {"QOSMaxUnknownPerNode", ClassLimit},
	WaitQosMaxUnkPerUser:            {"QOSMaxUnknownPerUser", ClassLimit},
	WaitQosMaxUnkMinsPerJob:         {"QOSMaxUnknownMinutesPerJob", ClassLimit},
	WaitQosMinUnk:                   {"QOSMinUnknown", ClassLimit},
	WaitQosMaxCpuPerNode:            {"QOSMaxCpuPerNode", ClassLimit},
	WaitQosGrpMemMin:                {"QOSGrpMemoryMinutes", ClassGroup | ClassLimit},
	WaitQosGrpMemRunMin:             {"QOSGrpMemoryRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxMemPerJob:             {"QOSMaxMemoryPerJob", ClassLimit},
	WaitQosMaxMemPerNode:            {"QOSMaxMemoryPerNode", ClassLimit},
	WaitQosMaxMemPerUser:            {"QOSMaxMemoryPerUser", ClassLimit},
	WaitQosMaxMemMinsPerJob:         {"QOSMaxMemoryMinutesPerJob", ClassLimit},
	WaitQosMinMem:                   {"QOSMinMemory", ClassLimit},
	WaitQosGrpNodeMin:               {"QOSGrpNodeMinutes", ClassGroup | ClassLimit},
	WaitQosGrpNodeRunMin:            {"QOSGrpNodeRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxNodeMinsPerJob:        {"QOSMaxNodeMinutesPerJob", ClassLimit},
	WaitQosMinNode:                  {"QOSMinNode", ClassLimit},
	WaitQosGrpEnergy:                {"QOSGrpEnergy", ClassGroup | ClassLimit},
	WaitQosGrpEnergyMin:             {"QOSGrpEnergyMinutes", ClassGroup | ClassLimit},
	WaitQosGrpEnergyRunMin:          {"QOSGrpEnergyRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxEnergyPerJob:          {"QOSMaxEnergyPerJob", ClassLimit},
	WaitQosMaxEnergyPerNode:         {"QOSMaxEnergyPerNode", ClassLimit},
	WaitQosMaxEnergyPerUser:         {"QOSMaxEnergyPerUser", ClassLimit},
	WaitQosMaxEnergyMinsPerJob:      {"QOSMaxEnergyMinutesPerJob", ClassLimit},
	WaitQosMinEnergy:                {"QOSMinEnergy", ClassLimit},
	WaitQosGrpGres:                  {"QOSGrpGRES", ClassGroup | ClassLimit},
	WaitQosGrpGresMin:               {"QOSGrpGRESMinutes", ClassGroup | ClassLimit},
	WaitQosGrpGresRunMin:            {"QOSGrpGRESRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxGresPerJob:            {"QOSMaxGRESPerJob", ClassLimit},
	WaitQosMaxGresPerNode:           {"QOSMaxGRESPerNode", ClassLimit},
	WaitQosMaxGresPerUser:           {"QOSMaxGRESPerUser", ClassLimit},
	WaitQosMaxGresMinsPerJob:        {"QOSMaxGRESMinutesPerJob", ClassLimit},
	WaitQosMinGres:                  {"QOSMinGRES", ClassLimit},
	WaitQosGrpLic:                   {"QOSGrpLicense", ClassGroup | ClassLimit},
	WaitQosGrpLicMin:                {"QOSGrpLicenseMinutes", ClassGroup | ClassLimit},
	WaitQosGrpLicRunMin:             {"QOSGrpLicenseRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxLicPerJob:             {"QOSMaxLicensePerJob", ClassLimit},
	WaitQosMaxLicPerUser:            {"QOSMaxLicensePerUser", ClassLimit},
	WaitQosMaxLicMinsPerJob:         {"QOSMaxLicenseMinutesPerJob", ClassLimit},
	WaitQosMinLic:                   {"QOSMinLicense", ClassLimit},
	WaitQosGrpBb:                    {"QOSGrpBB", ClassGroup | ClassLimit},
	WaitQosGrpBbMin:                 {"QOSGrpBBMinutes", ClassGroup | ClassLimit},
	WaitQosGrpBbRunMin:              {"QOSGrpBBRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxBbPerJob:              {"QOSMaxBBPerJob", ClassLimit},
	WaitQosMaxBbPerNode:             {"QOSMaxBBPerNode", ClassLimit},
	WaitQosMaxBbPerUser:             {"QOSMaxBBPerUser", ClassLimit},
	WaitQosMaxBbMinsPerJob:          {"AssocMaxBBMinutesPerJob", ClassLimit},
	WaitQosMinBb:                    {"QOSMinBB", ClassLimit},
	FailDeadline:                    {"DeadLine", 0},
	WaitQosMaxBbPerAcct:             {"MaxBBPerAccount", ClassLimit},
	WaitQosMaxCpuPerAcct:            {"MaxCpuPerAccount", ClassLimit},
	WaitQosMaxEnergyPerAcct:         {"MaxEnergyPerAccount", ClassLimit},
	WaitQosMaxGresPerAcct:           {"MaxGRESPerAccount", ClassLimit},
	WaitQosMaxNodePerAcct:           {"MaxNodePerAccount", ClassLimit},
	WaitQosMaxLicPerAcct:            {"MaxLicensePerAccount", ClassLimit},
	WaitQosMaxMemPerAcct:            {"MaxMemoryPerAccount", ClassLimit},
	WaitQosMaxUnkPerAcct:            {"MaxUnknownPerAccount", ClassLimit},
	WaitQosMaxJobPerAcct:            {"MaxJobsPerAccount", ClassLimit},
	WaitQosMaxSubJobPerAcct:         {"MaxSubmitJobsPerAccount", ClassLimit},
	WaitPartConfig:                  {"PartitionConfig", 0},
	WaitAccountPolicy:               {"AccountingPolicy", 0},
	WaitFedJobLock:                  {"FedJobLock", 0},
	FailOom:                         {"OutOfMemory", 0},
	WaitPnMemLimit:                  {"MaxMemPerLimit", 0},
	WaitAssocGrpBilling:             {"AssocGrpBilling", ClassLimit},
	WaitAssocGrpBillingMin:          {"AssocGrpBillingMinutes", ClassLimit},
	WaitAssocGrpBillingRunMin:       {"AssocGrpBillingRunMinutes", ClassLimit},
	WaitAssocMaxBillingPerJob:       {"AssocMaxBillingPerJob", ClassLimit},
	WaitAssocMaxBillingPerNode:      {"AssocMaxBillingPerNode", ClassLimit},
	WaitAssocMaxBillingMinsPerJob:   {"AssocMaxBillingMinutesPerJob", ClassLimit},
	WaitQosGrpBilling:               {"QOSGrpBilling", ClassGroup | ClassLimit},
	WaitQosGrpBillingMin:            {"QOSGrpBillingMinutes", ClassGroup | ClassLimit},
	WaitQosGrpBillingRunMin:         {"QOSGrpBillingRunMinutes", ClassGroup | ClassLimit},
	WaitQosMaxBillingPerJob:         {"QOSMaxBillingPerJob", ClassLimit},
	WaitQosMaxBillingPerNode:        {"QOSMaxBillingPerNode", ClassLimit},
	WaitQosMaxBillingPerUser:        {"QOSMaxBillingPerUser", ClassLimit},
	WaitQosMaxBillingMinsPerJob:     {"QOSMaxBillingMinutesPerJob", ClassLimit},
	WaitQosMaxBillingPerAcct:        {"MaxBillingPerAccount", ClassLimit},
	WaitQosMinBilling:               {"QOSMinBilling", ClassLimit},
	WaitResvDeleted:                 {"ReservationDeleted", 0},
	WaitResvInvalid:                 {"ReservationInvalid", 0},
	FailConstraints:                 {"Constraints", 0},
	WaitQosMaxBbRunMinsPerAcct:      {"MaxBBRunMinsPerAccount", ClassLimit},
	WaitQosMaxBillingRunMinsPerAcct: {"MaxBillingRunMinsPerAccount", ClassLimit},
	WaitQosMaxCpuRunMinsPerAcct:     {"MaxCpuRunMinsPerAccount", ClassLimit},
	WaitQosMaxEnergyRunMinsPerAcct:  {"MaxEnergyRunMinsPerAccount", ClassLimit},
	WaitQosMaxGresRunMinsPerAcct:    {"MaxGRESRunMinsPerAccount", ClassLimit},
	WaitQosMaxNodeRunMinsPerAcct:    {"MaxNodeRunMinsPerAccount", ClassLimit},
	WaitQosMaxLicRunMinsPerAcct:     {"MaxLicenseRunMinsPerAccount", ClassLimit},
	WaitQosMaxMemRunMinsPerAcct:     {"MaxMemoryRunMinsPerAccount", ClassLimit},
	WaitQosMaxUnkRunMinsPerAcct:     {"MaxUnknownRunMinsPerAccount", ClassLimit},
	WaitQosMaxBbRunMinsPerUser:      {"MaxBBRunMinsPerUser", ClassLimit},
	WaitQosMaxBillingRunMinsPerUser: {"MaxBillingRunMinsPerUser", ClassLimit},
	WaitQosMaxCpuRunMinsPerUser:     {"MaxCpuRunMinsPerUser", ClassLimit},
	WaitQosMaxEnergyRunMinsPerUser:  {"MaxEnergyRunMinsPerUser", ClassLimit},
	WaitQosMaxGresRunMinsPerUser:    {"MaxGRESRunMinsPerUser", ClassLimit},
	WaitQosMaxNodeRunMinsPerUser:    {"MaxNodeRunMinsPerUser", ClassLimit},
	WaitQosMaxLicRunMinsPerUser:     {"MaxLicenseRunMinsPerUser", ClassLimit},
	WaitQosMaxMemRunMinsPerUser:     {"MaxMemoryRunMinsPerUser", ClassLimit},
	WaitQosMaxUnkRunMinsPerUser:     {"MaxUnknownRunMinsPerUser", ClassLimit},
	WaitMaxPoweredNodes:             {"MaxPoweredUpNodes", ClassMisc},
	WaitMpiPortsBusy:                {"MpiPortsBusy", 0},
}

// String returns Slurm's spelling.
func (r Reason) String() string {
	if r >= reasonCount {
		return "InvalidReason"
	}
	return reasonTable[r].text
}

// Class returns the classes of r.
func (r Reason) Class() ReasonClass {
	if r >= reasonCount {
		return 0
	}
	return reasonTable[r].class
}

// ParseReason returns the first reason spelt s, in any case.
func ParseReason(s string) (Reason, bool) {
	for r := range reasonCount {
		if strings.EqualFold(reasonTable[r].text, s) {
			return r, true
		}
	}
	return 0, false
}
