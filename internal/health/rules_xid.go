package health

import (
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Sources, as docs/gpu-health.md spells them out.
const (
	srcNV   = "NVIDIA's XID catalog"
	srcDCGM = "DCGM"
	srcGPUd = "gpud"
	srcNVS  = "NVSentinel"
	srcK8S  = "k8s-device-plugin"
	srcGCM  = "Meta gcm"
)

// xidQuiet is how long an XID has to stay away before what it was is over.
const xidQuiet = 10 * time.Minute

// xidGroup is XIDs that are treated alike.
type xidGroup struct {
	class  string
	run    forge.RunAct
	hold   forge.HoldAct
	source string
	xids   []xidWords
}

type xidWords struct {
	xid   int
	words string
}

// builtinXIDs is the table of XIDs. Where its sources disagree, docs/adr/0043 says what was chosen.
var builtinXIDs = []xidGroup{
	{classApp, forge.RunFails, forge.HoldWarn, srcNV + ", " + srcK8S, []xidWords{
		{13, "exception in the graphics engine"},
		{31, "access to memory that is not mapped"},
		{32, "corrupted push buffer"},
	}},
	{classApp, forge.RunFails, forge.HoldNothing, srcDCGM + ", " + srcK8S, []xidWords{
		{43, "the GPU stopped processing for a program"},
	}},
	{classApp, forge.RunGoesOn, forge.HoldNothing, srcNV + ", " + srcGPUd + ", " + srcK8S + ", " + srcGCM, []xidWords{
		{45, "a program's work on the GPU was removed after it ended or failed"},
	}},
	{classApp, forge.RunFails, forge.HoldNothing, srcNV, []xidWords{
		{39, "exception in copy engine 0"},
		{40, "exception in copy engine 1"},
		{41, "exception in copy engine 2"},
		{68, "exception in video decoder 0"},
		{69, "error of a class of the graphics engine"},
		{70, "error in copy engine 3"},
		{71, "error in copy engine 4"},
		{72, "error in copy engine 5"},
		{75, "error in copy engine 6"},
		{76, "error in copy engine 7"},
		{77, "error in copy engine 8"},
		{82, "error in JPEG decoder 0"},
		{83, "error in video decoder 1"},
		{84, "error in video decoder 2"},
		{85, "error in copy engine 9"},
		{86, "exception in the optical flow accelerator"},
		{88, "error in video decoder 3"},
		{89, "error in video decoder 4"},
		{96, "error in video decoder 5"},
		{97, "error in video decoder 6"},
		{98, "error in video decoder 7"},
		{99, "error in JPEG decoder 1"},
		{100, "error in JPEG decoder 2"},
		{101, "error in JPEG decoder 3"},
		{102, "error in JPEG decoder 4"},
		{103, "error in JPEG decoder 5"},
		{104, "error in JPEG decoder 6"},
		{105, "error in JPEG decoder 7"},
		{126, "error in copy engine 10"},
		{127, "error in copy engine 11"},
		{128, "error in copy engine 12"},
		{129, "error in copy engine 13"},
		{130, "error in copy engine 14"},
		{131, "error in copy engine 15"},
		{132, "error in copy engine 16"},
		{133, "error in copy engine 17"},
		{134, "error in copy engine 18"},
		{135, "error in copy engine 19"},
		{139, "error in the second optical flow accelerator"},
	}},
	{classWarn, forge.RunGoesOn, forge.HoldDrain, srcDCGM + ", A100 memory error guide", []xidWords{
		{63, "a memory row is to be replaced at the next reset"},
	}},
	{classWarn, forge.RunGoesOn, forge.HoldWarn, srcNV + ", " + srcGCM, []xidWords{
		{92, "many corrected memory errors"},
	}},
	{classWarn, forge.RunGoesOn, forge.HoldWarn, srcNV + ", " + srcDCGM, []xidWords{
		{121, "error of the link between chips"},
		{137, "access over NVLink that was not allowed"},
		{141, "error of the fast path of CUDA"},
		{152, "memory fault of the deep-learning accelerator"},
		{153, "timeout of the deep-learning accelerator"},
		{157, "a part of the GPU could not be retired"},
		{160, "a channel of the memory was retired"},
		{161, "a channel of the memory could not be retired"},
	}},
	{classWarn, forge.RunGoesOn, forge.HoldNothing, srcNV, []xidWords{
		{154, "what the driver wants done with the GPU has changed; its recovery action decides"},
	}},
	{classJob, forge.RunElsewhere, forge.HoldDrain, srcNV + ", " + srcDCGM, []xidWords{
		{94, "contained memory error"},
	}},
	{classJob, forge.RunElsewhere, forge.HoldDrain, srcNV + ", " + srcNVS, []xidWords{
		{109, "timeout of a context switch"},
	}},
	{classGPU, forge.RunElsewhere, forge.HoldGPU, srcNV + ", " + srcDCGM, []xidWords{
		{46, "the GPU stopped processing"},
		{48, "memory error in two bits"},
		{62, "its controller halted"},
		{64, "a memory row could not be replaced"},
		{95, "memory error that was not contained"},
		{110, "security fault"},
		{119, "its system processor does not answer"},
		{120, "error of its system processor"},
		{136, "training of an NVLink failed"},
		{140, "memory error that was not recovered from"},
		{143, "the GPU could not be set up"},
		{155, "error of NVLink, found by software"},
		{156, "a part of the GPU is retired at the next reset"},
		{158, "fatal timeout"},
	}},
	{classLink, forge.RunElsewhere, forge.HoldGPU, srcDCGM + ", " + srcGPUd + ", " + srcNVS, []xidWords{
		{74, "error of NVLink"},
		{144, "error of NVLink (SAW)"},
		{145, "error of NVLink (RLW)"},
		{146, "error of NVLink (TLW)"},
		{147, "error of NVLink (TREX)"},
		{148, "error of NVLink (NVLPW_CTRL)"},
		{149, "error of NVLink (NETIR)"},
		{150, "error of NVLink (MSE)"},
	}},
	{classNode, forge.RunElsewhere, forge.HoldNode, srcNV + ", " + srcDCGM, []xidWords{
		{54, "the power connector of the GPU is not connected"},
		{79, "the GPU has fallen off the bus"},
		{151, "rotation of keys failed; the machine has to be restarted"},
		{167, "fatal error of PCIe"},
	}},
}

// unknownXID is the rule for numbers that the table does not have.
var unknownXID = forge.HealthRule{Name: "xid_unknown", Class: classWarn, Run: forge.RunGoesOn, Hold: forge.HoldDrain, ClearFor: xidQuiet,
	Words: "an XID that is not in the table", Source: srcNVS + ", " + srcK8S}

// Classes of rules.
const (
	classApp  = "app"  // the program's own fault
	classWarn = "warn" // to be known
	classJob  = "job"  // a fault that cost the run and was contained
	classGPU  = "gpu"  // the GPU cannot be relied on
	classLink = "link" // what is between GPUs cannot
	classNode = "node" // the machine cannot
)

var classes = []string{classApp, classWarn, classJob, classGPU, classLink, classNode}

func xidName(n int) string { return fmt.Sprintf("xid_%d", n) }

// xidRules lays the groups out, a rule for each number.
func xidRules() map[int]forge.HealthRule {
	out := map[int]forge.HealthRule{}
	for _, g := range builtinXIDs {
		for _, x := range g.xids {
			out[x.xid] = forge.HealthRule{Name: xidName(x.xid), XIDs: []int{x.xid}, Class: g.class, Run: g.run, Hold: g.hold, Words: x.words,
				Source: g.source, ClearFor: xidQuiet}
		}
	}
	return out
}
