// Command forgectl drives forged from login nodes: one static file, pure Go, that starts at
// once and needs nothing beside it.
//
//	main.go      process: streams, signals, exit code
//	app.go       the command tree and what every command shares
//	args.go      flags anywhere on the line, refused where they are not known
//	exit.go      the one table Kind → exit code, and how an error is said
//	config.go    ~/.config/forge/config.yaml: whose it must be, how it is read and changed
//	connect.go   where the server is and which key to show; trust.go: how its certificate is known
//	streams.go   terminal or pipe, width, time: injected, so that tests are plain calls
//	output.go    table on a terminal, TSV in a pipe, JSON when asked
//	table.go     what a narrow terminal leaves out, cuts and wraps; width.go: how wide a text is
//	watch.go     the same answer again and again; spinner.go: that something long goes on; bar.go: how far it is
//	complete.go  what the shells ask at a press of Tab; completion/ has their scripts
//	doctor.go    the visit; doctor_local.go: what a server that is down left on this host
//	text.go      what a server says, made safe for a terminal; times and sizes for people
//	plot.go      curves in braille: values in, lines out
//	dataset_read.go  the one pass over data that is here, by nice_linux.go out of everybody's way; dataset_mask.go: rows without what is private in them
//	dataset_tree.go, dataset_report.go, dataset_problems.go  what is drawn of datasets: values in, lines out
//	NOUN.go, run_VERB.go   the commands: options, parse, run
//
// Standard output carries the answer and nothing else. Progress, warnings and hints go to
// standard error. In a pipe there is no header, times are RFC 3339 in UTC, and columns are only
// ever appended. -o json prints the API's own forms.
package main
