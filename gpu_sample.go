package forge

import "time"

// GPUSample is what a GPU was like over a step of time: means, and the highest temperature. What is nil was not said in it.
type GPUSample struct {
	UUID         string    `json:"-"`
	At           time.Time `json:"at" doc:"When the step began"`
	Seconds      int       `json:"seconds" doc:"How long the step is: 60, or 900 of what is older than a day"`
	UtilPercent  *float64  `json:"util_percent,omitempty" doc:"Mean"`
	MemoryMiB    *float64  `json:"memory_mib,omitempty" doc:"Used; mean"`
	PowerWatts   *float64  `json:"power_watts,omitempty" doc:"Mean"`
	TemperatureC *float64  `json:"temperature_c,omitempty" doc:"The highest"`
}
