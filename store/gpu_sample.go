package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// The history of GPUs decays: steps of a minute for a day, quarters of an hour for a month.
const (
	GPUMinute      = time.Minute
	GPUQuarter     = 15 * time.Minute
	GPUMinutesKept = 24 * time.Hour
	GPUHistoryKept = 30 * 24 * time.Hour
	// GPUSamplesAtOnce bounds what one minute writes: a site of more GPUs than that has a history of the first of them.
	GPUSamplesAtOnce = 1024
)

const (
	levelMinute  = 1
	levelQuarter = 2
)

type gpuSampleRow struct {
	bun.BaseModel `bun:"table:gpu_samples,alias:s"`

	UUID        string   `bun:"uuid,pk"`
	Level       int      `bun:"level,pk"`
	At          stamp    `bun:"at,pk"`
	Util        *float64 `bun:"util"`
	MemoryMiB   *float64 `bun:"memory_mib"`
	PowerWatts  *float64 `bun:"power_watts"`
	Temperature *float64 `bun:"temperature"`
}

// AddGPUSamples stores what GPUs were like in one minute, one sample a GPU, brings the quarter of an hour that it is of up to date, and drops what
// these GPUs have that is older than is kept. Samples beyond GPUSamplesAtOnce are refused. The same minute again replaces it.
func (db *DB) AddGPUSamples(ctx context.Context, minute time.Time, samples []forge.GPUSample) error {
	const op = "gpu.sample"
	if len(samples) > GPUSamplesAtOnce {
		return forge.Errorf(forge.KindInternal, op, "%d samples at once; the bound is %d", len(samples), GPUSamplesAtOnce)
	}
	if len(samples) == 0 {
		return nil
	}
	minute = minute.Truncate(GPUMinute)
	rows, uuids := make([]gpuSampleRow, len(samples)), make([]string, len(samples))
	for i, s := range samples {
		uuids[i] = s.UUID
		rows[i] = gpuSampleRow{UUID: s.UUID, Level: levelMinute, At: stampOf(minute), Util: s.UtilPercent, MemoryMiB: s.MemoryMiB, PowerWatts: s.PowerWatts, Temperature: s.TemperatureC}
	}
	list, err := json.Marshal(uuids)
	if err != nil {
		return classify(op, err)
	}
	quarter := minute.Truncate(GPUQuarter)
	return db.write(ctx, op, func(t *tx) error {
		_, err := t.NewInsert().Model(&rows).On(`CONFLICT (uuid, level, at) DO UPDATE SET util = excluded.util, memory_mib = excluded.memory_mib,
			power_watts = excluded.power_watts, temperature = excluded.temperature`).Exec(t.ctx)
		if err != nil {
			return err
		}
		// Whole numbers, which SQLite keeps in a byte or two.
		if _, err := t.exec(`INSERT INTO gpu_samples (uuid, level, at, util, memory_mib, power_watts, temperature)
			SELECT uuid, 2, ?2, round(avg(util)), round(avg(memory_mib)), round(avg(power_watts)), max(temperature) FROM gpu_samples
			WHERE uuid IN (SELECT value FROM json_each(?1)) AND level = 1 AND at >= ?2 AND at < ?3 GROUP BY uuid
			ON CONFLICT (uuid, level, at) DO UPDATE SET util = excluded.util, memory_mib = excluded.memory_mib, power_watts = excluded.power_watts, temperature = excluded.temperature`,
			string(list), int64(stampOf(quarter)), int64(stampOf(quarter.Add(GPUQuarter)))); err != nil {
			return err
		}
		return t.dropGPUSamples(string(list), minute)
	})
}

// dropGPUSamples drops of these GPUs, a JSON array of UUIDs, what is older than is kept.
func (t *tx) dropGPUSamples(uuids string, now time.Time) error {
	for level, kept := range map[int]time.Duration{levelMinute: GPUMinutesKept, levelQuarter: GPUHistoryKept} {
		if _, err := t.exec(`DELETE FROM gpu_samples WHERE uuid IN (SELECT value FROM json_each(?)) AND level = ? AND at < ?`,
			uuids, level, int64(stampOf(now.Add(-kept)))); err != nil {
			return err
		}
	}
	return nil
}

// PruneGPUSamples drops what is older than is kept of GPUs that say nothing any more: of up to GPUSamplesAtOnce of them behind a UUID, and says
// where to go on; "": that was all.
func (db *DB) PruneGPUSamples(ctx context.Context, after string, now time.Time) (next string, err error) {
	const op = "gpu.prune"
	var uuids []string
	// The next one by the key, again and again: as many steps as there are GPUs, not as many as there are samples.
	err = db.read.NewRaw(`WITH RECURSIVE g(u) AS (SELECT min(uuid) FROM gpu_samples WHERE uuid > ?
		UNION ALL SELECT (SELECT min(uuid) FROM gpu_samples WHERE uuid > g.u) FROM g WHERE g.u IS NOT NULL)
		SELECT u FROM g WHERE u IS NOT NULL LIMIT ?`, after, GPUSamplesAtOnce).Scan(ctx, &uuids)
	if err != nil || len(uuids) == 0 {
		return "", classify(op, err)
	}
	list, err := json.Marshal(uuids)
	if err != nil {
		return "", classify(op, err)
	}
	if err := db.write(ctx, op, func(t *tx) error { return t.dropGPUSamples(string(list), now) }); err != nil {
		return "", err
	}
	if len(uuids) < GPUSamplesAtOnce {
		return "", nil
	}
	return uuids[len(uuids)-1], nil
}

// GPUHistory is what a GPU was like since then, oldest first: quarters of an hour as long as there are no minutes.
func (db *DB) GPUHistory(ctx context.Context, uuid string, since, now time.Time) ([]forge.GPUSample, error) {
	fine := now.Add(-GPUMinutesKept).Truncate(GPUQuarter).Add(GPUQuarter) // no quarter twice, in both forms
	var rows []gpuSampleRow
	err := db.read.NewSelect().Model(&rows).Where("s.uuid = ?", uuid).
		Where("(s.level = 2 AND s.at > ? AND s.at < ?) OR (s.level = 1 AND s.at > ?)", stampOf(since.Add(-GPUQuarter)), stampOf(fine), max(stampOf(fine)-1, stampOf(since.Add(-GPUMinute)))).
		Order("s.at").Scan(ctx)
	if err != nil {
		return nil, classify("gpu.history", err)
	}
	return nouns(rows, func(r *gpuSampleRow) (forge.GPUSample, error) {
		s := forge.GPUSample{UUID: r.UUID, At: r.At.time(), Seconds: int(GPUMinute / time.Second), UtilPercent: r.Util, MemoryMiB: r.MemoryMiB, PowerWatts: r.PowerWatts, TemperatureC: r.Temperature}
		if r.Level == levelQuarter {
			s.Seconds = int(GPUQuarter / time.Second)
		}
		return s, nil
	})
}
