//go:build long

package cron

import (
	"testing"
	"time"
)

func TestNextIsWhatAWatcherOfTheClockSeesOverYears(t *testing.T) { watch(t, 40, 3*366*24*time.Hour) }
