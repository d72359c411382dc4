//go:build long

package cron

import (
	"testing"
	"time"
)

// Every minute of a year is looked at in every zone, for eight expressions: about a minute of work under -race.
func TestNextIsWhatAWatcherOfTheClockSeesOverAYear(t *testing.T) { watch(t, 8, 183*24*time.Hour) }
