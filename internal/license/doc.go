// Package license knows what a licence expression is, what several together come to, and whether a site allows them. It is pure:
// values in, values out.
//
//	Parse   text ─► Expr           SPDX expressions as people write them: any case, deprecated ids, ids of Hugging Face cards
//	And     Exprs ─► Expr          what is made from several things may be used as all of them allow
//	Check   Lists, Inputs ─► Verdict   deny wins; of an OR one branch is enough, of an AND all are needed
//
// # Canonical form
//
// An Expr is flat (no AND directly in an AND), sorted and without duplicates, so that And is commutative, associative and idempotent
// by text, and two licences are the same when their strings are. Nothing is left out that was named: "A AND (A OR B)" stays, because
// people look for B.
//
// # What nobody knows
//
// NOASSERTION (nobody said) and NONE (there is none) are values of SPDX that its grammar has outside of expressions. Here they may
// stand within: "Apache-2.0 AND NOASSERTION" is what a model comes to when one of two datasets has no licence, and leaving the second
// half out would be a claim that nobody made.
//
// The list of SPDX ids is that of github.com/github/go-spdx; its parser is not used, because its errors do not say which word is wrong.
package license
