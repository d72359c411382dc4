package dataset

// maxNodes bounds how many different places one block may have; what a row nests beyond them stands at "*". A value that is used
// as a key must not become a report of a million fields.
const maxNodes = 4096

// node is a place where values stand, as columns nest: the row, messages, messages[], messages[].content. Rows after the first find
// theirs without a copy of the key, most often as the one after the place before.
type node struct {
	name  string
	up    *node
	kids  []*node
	next  int              // where the next key most likely is
	index map[string]*node // once there are many
	elem  *node            // of a list
	block int64            // that it was last met in
	line  int64            // of that block, where it was first met
	col   columnSet        // of the kind, where it is a column of one
	found []piiCount       // in this block
	full  string           // path, once somebody has asked
}

// path is its name for people.
func (n *node) path() string {
	const most = 256
	switch {
	case n.up == nil:
		return ""
	case n.full != "":
		return n.full
	}
	n.full = n.up.path()
	switch {
	case len(n.full) > most: // deep enough
	case n.name == "[]" || n.full == "":
		n.full += n.name
	default:
		n.full += "." + n.name
	}
	return n.full
}

// tree is all places of the rows that one worker has met. What it says of a block depends on nothing but the block: a place counts as
// known only when it was met there.
type tree struct {
	plan   *plan // nil: no column is one of a kind
	root   *node
	size   int
	block  int64
	line   int64   // of the row that is read
	active []*node // met in this block
	top    int     // how many of them are columns
	rest   *node   // of what is too much
}

func newTree(p *plan) *tree {
	t := &tree{plan: p}
	t.clear()
	return t
}

func (t *tree) clear() {
	t.root, t.size = &node{}, 0
	t.rest = &node{name: "*", up: t.root}
	t.rest.elem = t.rest
}

// begin starts the next block.
func (t *tree) begin() {
	if t.size > 2*maxNodes {
		t.clear()
	}
	t.block++
	t.active, t.top = t.active[:0], 0
}

// full says that no more places below up are told apart in this block.
func (t *tree) full(up *node) bool {
	if up == t.root {
		return t.top > maxColumns
	}
	return len(t.active) >= maxNodes
}

// meet says that n is there in this block, or where it is counted instead.
func (t *tree) meet(n *node) *node {
	if n.block == t.block {
		return n
	}
	if n != t.rest && t.full(n.up) {
		return t.meet(t.rest)
	}
	if n.up == t.root && n != t.rest {
		t.top++
	}
	n.block, n.line, n.found = t.block, t.line, n.found[:0]
	t.active = append(t.active, n)
	return n
}

// child is the place of the key in an object that stands at n. A nil n has none.
func (t *tree) child(n *node, key []byte) *node {
	if n == nil || n == t.rest {
		return n
	}
	if n.next < len(n.kids) && n.kids[n.next].name == string(key) {
		n.next++
		return t.meet(n.kids[n.next-1])
	}
	if n.index != nil {
		if k, ok := n.index[string(key)]; ok {
			return t.meet(k)
		}
	} else {
		for i, k := range n.kids {
			if k.name == string(key) {
				n.next = i + 1
				return t.meet(k)
			}
		}
	}
	if t.full(n) || len(key) > maxColumnName {
		return t.meet(t.rest)
	}
	k := &node{name: string(key), up: n, block: -1}
	if n == t.root && t.plan != nil {
		k.col = t.plan.column(key)
	}
	n.kids = append(n.kids, k)
	n.next = len(n.kids)
	t.size++
	const few = 16
	switch {
	case n.index != nil:
		n.index[k.name] = k
	case len(n.kids) > few:
		n.index = make(map[string]*node, 2*few)
		for _, k := range n.kids {
			n.index[k.name] = k
		}
	}
	return t.meet(k)
}

// element is the place of what a list at n holds.
func (t *tree) element(n *node) *node {
	if n == nil {
		return nil
	}
	if n.elem == nil {
		n.elem = &node{name: "[]", up: n, block: -1}
		t.size++
	}
	return t.meet(n.elem)
}

// open says that an object begins at n: its first key is likely the first one.
func (n *node) open() {
	if n != nil {
		n.next = 0
	}
}
