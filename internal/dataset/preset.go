package dataset

import "fmt"

// member is one column of an object: its name without escapes, and its value as it stands there.
type member struct{ key, raw []byte }

// members lists the columns of an object that has been read to its end without a problem.
func members(dst []member, object []byte) []member {
	var s scanner
	s.reset(object)
	s.space()
	o, bad := s.enterObject()
	for bad == nil {
		var key []byte
		if key, bad = s.member(&o); bad != nil || key == nil {
			break
		}
		from := s.i
		if bad = s.value(nil); bad == nil {
			dst = append(dst, member{key, object[from:s.i]})
		}
	}
	return dst
}

// listed calls fn with each value of a list that has been read without a problem.
func listed(list []byte, fn func(n int, value []byte) *problem) *problem {
	var s scanner
	s.reset(list)
	if bad := s.enter(); bad != nil {
		return bad
	}
	for n := 0; ; n++ {
		more, bad := s.element(n)
		if bad != nil || !more {
			return bad
		}
		from := s.i
		if bad := s.value(nil); bad != nil {
			return bad
		}
		if bad := fn(n, list[from:s.i]); bad != nil {
			return bad
		}
	}
}

func is(raw []byte, first byte) bool { return len(raw) > 0 && raw[0] == first }

// inner is what stands between the quotes of a string.
func inner(raw []byte) []byte { return raw[1 : len(raw)-1] }

func unfit(format string, args ...any) *problem { return &problem{why: fmt.Sprintf(format, args...)} }

// made appends the row of the kind that a preset makes of a row of the files. It looks at nothing but the row: forge_train
// makes the same (docs/dataset-formats.md).
func made(preset string, dst []byte, row []member) ([]byte, *problem) {
	if preset == presetAlpaca {
		return alpaca(dst, row)
	}
	return shareGPT(dst, row)
}

// rest ends the row with the columns that are not taken, but for those that the preset makes.
func rest(dst []byte, row []member, taken ...string) []byte {
next:
	for _, m := range row {
		for _, t := range taken {
			if string(m.key) == t {
				continue next
			}
		}
		dst = append(append(append(append(dst, ','), appendQuoted(nil, m.key)...), ':'), m.raw...)
	}
	return append(dst, '}')
}

func column(row []member, name string) (raw []byte, there bool) {
	for _, m := range row {
		if string(m.key) == name {
			return m.raw, true
		}
	}
	return nil, false
}

// textOf is what stands between the quotes of a column; null is as good as none.
func textOf(row []member, name string, must bool) (text []byte, bad *problem) {
	raw, there := column(row, name)
	switch {
	case is(raw, '"'):
		return inner(raw), nil
	case must && !there:
		return nil, unfit("has no column %s", name)
	case must || there && !is(raw, 'n'):
		return nil, unfit("%s is %s; want a string", name, kindOfValue(raw[0]))
	}
	return nil, nil
}

// alpaca: instruction, a newline and input, where there is one, are the prompt; output is the completion. Rows that have the
// column system or history, whatever is in it, become messages.
func alpaca(dst []byte, row []member) ([]byte, *problem) {
	ask, bad := textOf(row, "instruction", true)
	if bad != nil {
		return dst, bad
	}
	input, bad := textOf(row, "input", false)
	if bad != nil {
		return dst, bad
	}
	output, bad := textOf(row, "output", true)
	if bad != nil {
		return dst, bad
	}
	system, bad := textOf(row, "system", false)
	if bad != nil {
		return dst, bad
	}
	_, hasSystem := column(row, "system")
	history, hasHistory := column(row, "history")
	prompt := func(dst []byte) []byte {
		dst = append(append(dst, '"'), ask...)
		if len(input) > 0 {
			if len(ask) > 0 {
				dst = append(dst, `\n`...)
			}
			dst = append(dst, input...)
		}
		return append(dst, '"')
	}
	if !hasSystem && !hasHistory {
		dst = append(prompt(append(dst, `{"prompt":`...)), `,"completion":"`...)
		dst = append(append(dst, output...), '"')
		return rest(dst, row, "instruction", "input", "output", "prompt", "completion"), nil
	}
	dst = append(dst, `{"prompt":[`...)
	if len(system) > 0 {
		dst = append(append(append(dst, `{"role":"system","content":"`...), system...), `"},`...)
	}
	if dst, bad = pastTurns(dst, history); bad != nil {
		return dst, bad
	}
	dst = append(prompt(append(dst, `{"role":"user","content":`...)), `}],"completion":[{"role":"assistant","content":"`...)
	dst = append(append(dst, output...), `"}]`...)
	return rest(dst, row, "instruction", "input", "output", "system", "history", "prompt", "completion"), nil
}

// pastTurns appends what was said before: a list of [question, answer].
func pastTurns(dst, history []byte) ([]byte, *problem) {
	if len(history) == 0 || is(history, 'n') {
		return dst, nil
	}
	if !is(history, '[') {
		return dst, unfit("history is %s; want a list of [question, answer]", kindOfValue(history[0]))
	}
	bad := listed(history, func(n int, pair []byte) *problem {
		if !is(pair, '[') {
			return unfit("history[%d] is %s; want [question, answer]", n, kindOfValue(pair[0]))
		}
		parts := 0
		bad := listed(pair, func(i int, part []byte) *problem {
			if !is(part, '"') || i > 1 {
				return unfit("history[%d] is not two strings, a question and an answer", n)
			}
			dst = append(append(dst, `{"role":"`...), [...]string{"user", "assistant"}[i]...)
			dst = append(append(append(dst, `","content":`...), part...), "},"...)
			parts++
			return nil
		})
		if bad == nil && parts != 2 {
			bad = unfit("history[%d] is not two strings, a question and an answer", n)
		}
		return bad
	})
	return dst, bad
}

// shareRole reads the names of ShareGPT and its kin for who speaks.
func shareRole(from []byte) string {
	switch string(from) {
	case "human", "user":
		return "user"
	case "gpt", "chatgpt", "assistant", "model":
		return "assistant"
	case "system":
		return "system"
	case "tool", "observation", "function_response":
		return "tool"
	}
	return ""
}

// shareGPT: conversations of {from, value} are messages of {role, content}; a column system that is a string and not empty is the
// first turn, unless there is one. What else a turn has stays in it.
func shareGPT(dst []byte, row []member) ([]byte, *problem) {
	talk, there := column(row, "conversations")
	switch {
	case !there:
		return dst, unfit("has no column conversations")
	case !is(talk, '['):
		return dst, unfit("conversations is %s; want a list of {from, value}", kindOfValue(talk[0]))
	}
	system, bad := textOf(row, "system", false)
	if bad != nil {
		return dst, bad
	}
	dst = append(dst, `{"messages":[`...)
	var turn []member
	bad = listed(talk, func(n int, value []byte) *problem {
		if !is(value, '{') {
			return unfit("conversations[%d] is %s; want an object {from, value}", n, kindOfValue(value[0]))
		}
		turn = members(turn[:0], value)
		from, bad := textOf(turn, "from", true)
		if bad != nil {
			return unfit("conversations[%d]: %s", n, bad.why)
		}
		role := shareRole(from)
		if role == "" {
			return unfit("conversations[%d]: from %.40q is not one of human, user, gpt, chatgpt, assistant, model, system, tool, observation, function_response", n, from)
		}
		said, bad := textOf(turn, "value", true)
		if bad != nil {
			return unfit("conversations[%d]: %s", n, bad.why)
		}
		if n == 0 && len(system) > 0 && role != "system" {
			dst = append(append(append(dst, `{"role":"system","content":"`...), system...), `"},`...)
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, `{"role":"`...), role...), `","content":"`...)
		dst = rest(append(append(dst, said...), '"'), turn, "from", "value", "role", "content")
		return nil
	})
	if bad != nil {
		return dst, bad
	}
	return rest(append(dst, ']'), row, "conversations", "system", "messages"), nil
}
