package rpc

import (
	"github.com/sluice-hpc/sluice/core/auth"
	"github.com/sluice-hpc/sluice/sdk/proto/acct/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/ctl/v1"
	"github.com/sluice-hpc/sluice/sdk/proto/node/v1"
)

// row says who may make a call.
type row struct {
	need    auth.Role
	more    func(req any, id *auth.Identity) auth.Role // what this very request needs; plain calls only
	standby bool                                       // answered by a controller in standby too
}

// rows has every call of every service; a call without a row is refused. That a
// job belongs to the caller is not said here: commands judge it.
var rows = map[string]row{
	ctlv1.Controller_Ping_FullMethodName:              {need: auth.RoleUser, standby: true},
	ctlv1.Controller_Submit_FullMethodName:            {need: auth.RoleUser},
	ctlv1.Controller_Jobs_FullMethodName:              {need: auth.RoleUser},
	ctlv1.Controller_Steps_FullMethodName:             {need: auth.RoleUser},
	ctlv1.Controller_Nodes_FullMethodName:             {need: auth.RoleUser},
	ctlv1.Controller_Partitions_FullMethodName:        {need: auth.RoleUser},
	ctlv1.Controller_Config_FullMethodName:            {need: auth.RoleUser},
	ctlv1.Controller_Topology_FullMethodName:          {need: auth.RoleUser},
	ctlv1.Controller_Script_FullMethodName:            {need: auth.RoleUser},
	ctlv1.Controller_Signal_FullMethodName:            {need: auth.RoleUser},
	ctlv1.Controller_UpdateJob_FullMethodName:         {need: auth.RoleUser},
	ctlv1.Controller_UpdateNode_FullMethodName:        {need: auth.RoleOperator},
	ctlv1.Controller_UpdatePartition_FullMethodName:   {need: auth.RoleOperator},
	ctlv1.Controller_Reservations_FullMethodName:      {need: auth.RoleUser},
	ctlv1.Controller_UpdateReservation_FullMethodName: {need: auth.RoleUser}, // users may delete some
	ctlv1.Controller_Complete_FullMethodName:          {need: auth.RoleUser},
	ctlv1.Controller_WatchJob_FullMethodName:          {need: auth.RoleUser},
	ctlv1.Controller_Watch_FullMethodName:             {need: auth.RoleUser},
	ctlv1.Controller_Forecast_FullMethodName:          {need: auth.RoleUser},
	ctlv1.Controller_Explain_FullMethodName:           {need: auth.RoleUser},
	ctlv1.Controller_Reconfigure_FullMethodName:       {need: auth.RoleAdministrator},
	ctlv1.Controller_Shutdown_FullMethodName:          {need: auth.RoleAdministrator, standby: true},
	ctlv1.Controller_Plugins_FullMethodName:           {need: auth.RoleUser},
	ctlv1.Controller_ChangePlugin_FullMethodName:      {need: auth.RoleAdministrator},
	ctlv1.Controller_Shadows_FullMethodName:           {need: auth.RoleUser},
	ctlv1.Controller_Diag_FullMethodName:              {need: auth.RoleUser, more: diagNeeds},
	ctlv1.Controller_Token_FullMethodName:             {need: auth.RoleUser, more: tokenNeeds},
	ctlv1.Controller_SetDebug_FullMethodName:          {need: auth.RoleAdministrator},
	acctv1.Accounting_Jobs_FullMethodName:             {need: auth.RoleUser},
	nodev1.Fleet_Connect_FullMethodName:               {need: auth.RoleSlurmUser},
}

// diagNeeds: statistics are for all, resetting them for operators.
func diagNeeds(req any, _ *auth.Identity) auth.Role {
	if r, ok := req.(*ctlv1.DiagRequest); ok && r.GetReset_() {
		return auth.RoleOperator
	}
	return auth.RoleUser
}

// tokenNeeds: another user's token is a way to be that user.
func tokenNeeds(req any, id *auth.Identity) auth.Role {
	if r, ok := req.(*ctlv1.TokenRequest); ok && r.GetUser() != "" && r.GetUser() != id.User {
		return auth.RoleSlurmUser
	}
	return auth.RoleUser
}
