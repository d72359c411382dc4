package forge

// RowFault is what may be wrong with a row that is well-formed: it trains, and what comes out is not what was meant.
type RowFault string

// The row faults.
const (
	RowSameAnswers RowFault = "chosen_is_rejected"     // the pair says nothing
	RowNoPrompt    RowFault = "no_common_prompt"       // a pair without a prompt that does not begin alike, or of which one is all beginning
	RowEmptyAnswer RowFault = "empty_answer"           // nothing but white space is to be learned
	RowEmptyTurn   RowFault = "empty_turn"             // a turn before the answer with nothing but white space in it
	RowNoText      RowFault = "no_text"                // a turn with tool calls and no content: the built-in recipes read text only
	RowRoles       RowFault = "roles_do_not_alternate" // many chat templates refuse it
	RowOpenEnd     RowFault = "no_answer_at_end"       // the conversation ends with somebody else than the assistant
	RowNullKey     RowFault = "null_key"               // a key of a message that is null: written by datasets before 4.7
)

// RowFaults lists them, the worst first.
var RowFaults = []RowFault{RowNoText, RowEmptyAnswer, RowSameAnswers, RowNoPrompt, RowRoles, RowOpenEnd, RowEmptyTurn, RowNullKey}

// Ends says that forge's own recipes end with bad_input at such a row of a dataset of this kind: it is what forge_train's rows and
// pairs refuse.
func (f RowFault) Ends(kind DatasetKind) bool {
	return f == RowNoText || kind == KindPreference && f != RowNullKey
}

// Words says what is wrong with the rows, after their number.
func (f RowFault) Words() string {
	switch f {
	case RowSameAnswers:
		return "have the same text as chosen and as rejected"
	case RowNoPrompt:
		return "have no prompt, and answers that begin differently or of which one is nothing but what both begin with"
	case RowEmptyAnswer:
		return "have an answer of white space only"
	case RowEmptyTurn:
		return "have a turn of white space only"
	case RowNoText:
		return "have a turn without text, only with tool calls"
	case RowRoles:
		return "have two turns of one role in a row, or a system turn after the first; many chat templates refuse that"
	case RowOpenEnd:
		return "end with another turn than the assistant's"
	case RowNullKey:
		return "have messages with keys that are null; chat templates take those for given"
	}
	return string(f)
}

// Remedy is a command that leaves such rows out; empty where there is none so simple.
func (f RowFault) Remedy() string {
	switch f {
	case RowSameAnswers:
		return "jq -c 'select(.chosen != .rejected)' in.jsonl > out.jsonl"
	case RowEmptyAnswer:
		return `jq -c 'select([.completion, .chosen, .rejected, .text, .messages[-1:]?] | map(select(. != null) | if type == "array" then .[-1].content else . end) | all(test("\\S")))' in.jsonl > out.jsonl`
	case RowNoText:
		return `jq -c 'select([.messages, .prompt, .completion, .chosen, .rejected] | map(arrays | .[]) | all(.content | type == "string"))' in.jsonl > out.jsonl`
	case RowOpenEnd:
		return `jq -c 'select(.messages[-1].role == "assistant")' in.jsonl > out.jsonl`
	case RowNullKey:
		return `jq -c 'walk(if type == "object" then with_entries(select(.value != null)) else . end)' in.jsonl > out.jsonl`
	}
	return ""
}

// RowFinding is one fault over a whole dataset.
type RowFinding struct {
	Fault RowFault `json:"fault"`
	Rows  int64    `json:"rows" doc:"How many rows have it"`
	First []string `json:"first" doc:"FILE:LINE of the first few"`
}

// RowsSeen is what registration saw in the rows of a dataset, beyond their form.
type RowsSeen struct {
	Messages bool         `json:"messages" doc:"The columns hold messages and not text"`
	Findings []RowFinding `json:"findings" doc:"In a fixed order, the worst first"`
}

// WeightsSeen is what registration saw in the directory of a base model.
type WeightsSeen struct {
	Architecture string `json:"architecture,omitempty"`
	Shards       int    `json:"shards" doc:"Files that make up the weights"`
	ChatTemplate bool   `json:"chat_template" doc:"The tokenizer has one"`
	ChatML       bool   `json:"chatml" doc:"The tokenizer knows the marks of ChatML, <|im_start|> and <|im_end|>"`
	Outputs      int    `json:"outputs,omitempty" doc:"Of its sequence-classification head; a reward model has one. Absent: it has no such head, or was imported before that was looked at"`
	Vocab        int    `json:"vocab_size,omitempty" doc:"Tokens that its config says it knows"`
	RemoteCode   bool   `json:"remote_code" doc:"It comes with Python code of its own, which would have to be trusted"`
	Shape        *Shape `json:"shape,omitempty" doc:"What its size follows from; absent where it was before import looked, or where nothing of it could be read"`
}
