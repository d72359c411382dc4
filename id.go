package forge

// Ids are ULIDs, made by the store. People see names and per-tenant numbers instead.
type (
	TenantID         string
	UserID           string
	KeyID            string
	DatasetID        string
	DatasetVersionID string
	RunID            string
	HookID           string
	ModelID          string
	ModelVersionID   string
	NodeName         string // unique inside its cluster; the store keys nodes by (cluster, node)
	ClusterName      string
	ScheduleID       string
)
