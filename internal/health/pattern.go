package health

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of what Match reads, and of what a site may ask it to.
const (
	maxLines    = 400     // the last of a rank's output
	maxLine     = 4 << 10 // of a line, or of what a carriage return has left of it
	maxRest     = 16 << 10
	maxShown    = 300
	maxPatterns = 200
	maxMatch    = 500
)

// pattern is a LogPattern that can be matched.
type pattern struct {
	forge.LogPattern
	re *regexp.Regexp
}

// What programs print before the message: nothing, a name of a rank, a time, a module.
const before = `(?:^|[\s\]:|>])`

// builtinPatterns are asked in this order: what explains the others comes first. Each is as the program prints it that finds the fault, with as
// much of its form as there is: a text about such faults shall not match.
var builtinPatterns = []forge.LogPattern{
	{Name: "ecc_uncorrectable", Action: forge.PatternExcludeNode, Words: "memory of a GPU is broken",
		Match: `(?:CUDA error: |CUDA_ERROR_ECC_UNCORRECTABLE: |cuda runtime error \(39\) : |Cuda failure (?:\d+ )?')uncorrectable ECC error encountered`},
	{Name: "gpu_unreachable", Action: forge.PatternExcludeNode, Words: "a GPU of the node cannot be reached",
		Match: `Unable to determine the device handle for GPU\S*: (?:GPU is lost|Unknown Error)|(?:RuntimeError: |CUDA error: |CUDA_ERROR_NO_DEVICE: |Cuda failure (?:\d+ )?')(?:no CUDA-capable device is detected|No CUDA GPUs are available|CUDA-capable device\(s\) is/are busy or unavailable|all CUDA-capable devices are busy or unavailable)`},
	{Name: "cuda_driver", Action: forge.PatternExcludeNode, Words: "driver and CUDA libraries of the node do not go together",
		Match: `CUDA driver version is insufficient for CUDA runtime version|RuntimeError: The NVIDIA driver on your system is too old \(found version|Failed to initialize NVML: Driver/library version mismatch|CUDA error: (?:forward compatibility was attempted on non supported HW|system has unsupported display driver / cuda driver combination|system not yet initialized)`},
	{Name: forge.PatternCUDAOOM, Action: forge.PatternNoRetry, Words: "out of GPU memory",
		Match: before + `(?:(?:torch\.)?(?:cuda\.)?OutOfMemoryError|RuntimeError): CUDA out of memory\. Tried to allocate|RuntimeError: CUDA error: (?:out of memory|CUBLAS_STATUS_ALLOC_FAILED when calling)|Cuda failure (?:\d+ )?'out of memory'|XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory`},
	{Name: "illegal_access", Action: forge.PatternNoRetry, Words: "the program did on a GPU what it may not",
		Match: `(?:CUDA error: |Cuda failure (?:\d+ )?')(?:an illegal memory access was encountered|device-side assert triggered|misaligned address|an illegal instruction was encountered)`},
	{Name: "disk_full", Action: forge.PatternExcludeNode, Words: "no space is left on a disk",
		Match: `OSError: \[Errno 28\] No space left on device|iostream error.*No space left on device`},
	{Name: "files_gone", Action: forge.PatternExcludeNode, Words: "the node has lost its file system",
		Match: `OSError: \[Errno (?:116\] Stale file handle|107\] Transport endpoint is not connected|108\] Cannot send after transport endpoint shutdown|5\] Input/output error)`},
	{Name: "bus_error", Action: forge.PatternExcludeNode, Words: "shared memory of the node is used up, or a file could not be read any further",
		Match: `DataLoader worker \(pid(?:\(s\))? ?[\d, ]+\) is killed by signal: Bus error|ERROR: Unexpected bus error encountered in worker\. This might be caused by insufficient shared memory|^Fatal Python error: Bus error|Caught signal 7 \(Bus error`},
	{Name: "nccl_timeout", Action: forge.PatternRetry, Words: "ranks waited for each other in vain",
		Match: `\[Rank \d+\] Watchdog caught collective operation timeout: WorkNCCL\(`},
	{Name: "nccl_system", Action: forge.PatternExcludeNode, Words: "NCCL met an error of the system below it",
		Match: `NCCL error in: \S+:\d+, unhandled system error|^(?:\[\w+\]:\s*)?ncclSystemError: System call \(`},
	{Name: "nccl_peer", Action: forge.PatternRetry, Words: "another rank, or the network to it, was gone",
		Match: `NCCL error(?: in: \S+:\d+, |: )remote process exited or there was a network error|^(?:\[\w+\]:\s*)?ncclRemoteError: A call failed possibly due to|NET/IB ?: .*Got completion from peer .* with (?:error|status=?) ?12\b`},
}

// Patterns lists the patterns in force, in the order in which they are asked.
func (t *Table) Patterns() []forge.LogPattern {
	out := make([]forge.LogPattern, len(t.patterns))
	for i, p := range t.patterns {
		out[i] = p.LogPattern
	}
	return out
}

var (
	patternActions = []forge.PatternAction{forge.PatternExcludeNode, forge.PatternNoRetry, forge.PatternRetry, forge.PatternIgnore}
	patternName    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
)

// mergePatterns puts the site's own patterns before the built-in ones, and its changes of those over them.
func mergePatterns(changes []forge.LogPattern) ([]pattern, *fault) {
	if len(changes) > maxPatterns {
		return nil, wrong("", "there are %d; want at most %d", len(changes), maxPatterns)
	}
	var own []pattern
	rest := slices.Clone(builtinPatterns)
	names := map[string]bool{}
	for i, c := range changes {
		at := fmt.Sprintf("[%d]", i)
		bad := func(f *fault) ([]pattern, *fault) { f.at = at; return nil, f }
		if f := checkPattern(c); f != nil {
			return bad(f)
		}
		if names[c.Name] {
			return bad(wrong("name", "%q stands there twice", c.Name))
		}
		names[c.Name] = true
		if b := slices.IndexFunc(rest, func(p forge.LogPattern) bool { return p.Name == c.Name }); b >= 0 {
			rest[b] = mergePattern(rest[b], c)
			continue
		}
		switch {
		case c.Match == "":
			return bad(wrong("match", "is missing; %q is none of the built-in patterns: %s", c.Name, patternNames()))
		case c.Action == "":
			return bad(wrong("action", "is missing; want one of %s", join(patternActions)))
		}
		own = append(own, pattern{c, regexp.MustCompile(c.Match)})
	}
	for _, p := range rest {
		own = append(own, pattern{p, regexp.MustCompile(p.Match)})
	}
	return own, nil
}

func mergePattern(p, c forge.LogPattern) forge.LogPattern {
	if c.Match != "" {
		p.Match = c.Match
	}
	if c.Action != "" {
		p.Action = c.Action
	}
	if c.Words != "" {
		p.Words = c.Words
	}
	return p
}

func checkPattern(c forge.LogPattern) *fault {
	switch {
	case !patternName.MatchString(c.Name):
		return wrong("name", "%q: want a small letter, then small letters, digits and _, at most 40", c.Name)
	case c.Action != "" && !slices.Contains(patternActions, c.Action):
		return wrong("action", "%q: want one of %s", c.Action, join(patternActions))
	case len(c.Match) > maxMatch:
		return wrong("match", "is %d bytes long; want at most %d", len(c.Match), maxMatch)
	case len(c.Words) > 300:
		return wrong("words", "is %d bytes long; want at most 300", len(c.Words))
	}
	re, err := regexp.Compile(c.Match)
	if err != nil {
		return wrong("match", "%q is no regular expression of RE2: %w", c.Match, err)
	}
	if c.Match != "" && re.MatchString("") {
		return wrong("match", "%q matches every line", c.Match)
	}
	return nil
}

func patternNames() string {
	var out []string
	for _, p := range builtinPatterns {
		out = append(out, p.Name)
	}
	return strings.Join(out, ", ")
}

// Match finds the line that explains a failure best, of the last lines of a rank's output; nil: none does. The first pattern that any line
// matches wins, and of its lines the first: what came later followed from it. Its time is linear in what it reads, which is bounded.
func (t *Table) Match(rank int, lines []string) *forge.PatternHit {
	lines = lines[max(0, len(lines)-maxLines):]
	var texts []string
	for _, l := range lines {
		l = l[max(0, len(l)-maxRest):]
		for part := range strings.SplitSeq(l, "\r") { // a progress bar, with the error behind it
			texts = append(texts, part[:min(len(part), maxLine)])
		}
	}
	for _, p := range t.patterns {
		if p.Action == forge.PatternIgnore {
			continue
		}
		for _, text := range texts {
			if at := p.re.FindStringIndex(text); at != nil {
				return &forge.PatternHit{Name: p.Name, Action: p.Action, Rank: rank, Line: shown(text, at[0], at[1])}
			}
		}
	}
	return nil
}

// shown is a line cut to what people are shown, the match within it, without what moves a terminal's cursor.
func shown(text string, from, to int) string {
	if to > maxShown {
		text = text[from:]
	}
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r != ' ' && !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	for len(text) > maxShown {
		_, n := utf8.DecodeLastRuneInString(text[:maxShown+1])
		text = text[:min(maxShown, maxShown+1-n)]
	}
	return text
}
