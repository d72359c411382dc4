// Package cron says when an expression is due, in a time zone. It is pure: no clock, no timers.
//
// The expression is read by robfig/cron's parser; when it is due is decided here, because on the nights when clocks change robfig's own answer
// leaves times out. The rule is about what clocks on the wall show:
//
//   - a time that the clocks jump over is due at the first whole minute after the jump, together with all others that were jumped over;
//   - a time that the clocks show twice is due the first time.
//
// Every minute that an expression names thus is due exactly once, on every day that there is.
package cron
