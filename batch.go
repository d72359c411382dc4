package forge

import "time"

// BatchOptions are words for a cluster's own batch system, checked by the site's rules and passed on as
// they are. Clusters without one have no use for them: a run that names any goes only where they mean something.
type BatchOptions struct {
	Partition   string   `json:"partition,omitempty" yaml:"partition"`
	Account     string   `json:"account,omitempty" yaml:"account"`
	QOS         string   `json:"qos,omitempty" yaml:"qos"`
	Constraint  string   `json:"constraint,omitempty" yaml:"constraint"`
	Reservation string   `json:"reservation,omitempty" yaml:"reservation"`
	Exclude     string   `json:"exclude,omitempty" yaml:"exclude" doc:"Host list: gpu-[1-3,7]"`
	Nodelist    string   `json:"nodelist,omitempty" yaml:"nodelist" doc:"Host list: gpu-[1-3,7]"`
	MailType    string   `json:"mail_type,omitempty" yaml:"mail_type"`
	Raw         []string `json:"raw,omitempty" yaml:"raw" doc:"Options for sbatch as they are, against the site's allow-list"`
}

// Empty says that nothing was asked for.
func (o *BatchOptions) Empty() bool {
	return o == nil || o.Partition == "" && o.Account == "" && o.QOS == "" && o.Constraint == "" && o.Reservation == "" &&
		o.Exclude == "" && o.Nodelist == "" && o.MailType == "" && len(o.Raw) == 0
}

// BatchJob is what a cluster's batch system last said of an attempt. It is shown, and explains; what is
// decided rests on Observation.State.
type BatchJob struct {
	ID             string    `json:"id" doc:"The batch system's own id; Slurm's job id. Reused after years, so never a key by itself"`
	Name           string    `json:"name"`
	State          string    `json:"state" doc:"Its own word: PENDING, RUNNING, NODE_FAIL"`
	Reason         string    `json:"reason,omitempty" doc:"Why it waits or ended, in its own words"`
	Partition      string    `json:"partition,omitempty"`
	SubmittedAt    time.Time `json:"submitted_at,omitzero"`
	EstimatedStart time.Time `json:"estimated_start,omitzero" doc:"The batch system's own estimate while it waits"`
	StartedAt      time.Time `json:"started_at,omitzero" doc:"When it was allocated"`
	EndedAt        time.Time `json:"ended_at,omitzero"`
}

// estimateNoise is by how much an estimated start moves from look to look without being news.
const estimateNoise = time.Minute

// News says whether there is more to tell than what was told before; nil when nothing was.
func (j BatchJob) News(told *BatchJob) bool {
	if told == nil {
		return true
	}
	moved := j.EstimatedStart.Sub(told.EstimatedStart).Abs()
	a, b := j, *told
	if moved < estimateNoise {
		a.EstimatedStart, b.EstimatedStart = time.Time{}, time.Time{}
	}
	return a.ID != b.ID || a.Name != b.Name || a.State != b.State || a.Reason != b.Reason || a.Partition != b.Partition ||
		!a.SubmittedAt.Equal(b.SubmittedAt) || !a.EstimatedStart.Equal(b.EstimatedStart) || !a.StartedAt.Equal(b.StartedAt) || !a.EndedAt.Equal(b.EndedAt)
}
