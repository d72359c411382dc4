package api

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Hooks manages who is told of events. For admins of the tenant; hooks of the site, and programs that its configuration does not name for the
// tenant, for operators: KindForbidden. A hook is named by its name or id. KindNotFound, by the same words, for another tenant's.
type Hooks interface {
	// CreateHook is KindInvalid, with Field, for a host, program or address that the site's configuration does not allow.
	CreateHook(ctx context.Context, p forge.Principal, r CreateHookRequest) (CreatedHook, error)
	Hooks(ctx context.Context, p forge.Principal, q HookListing) (List[forge.Hook], error)
	HookNamed(ctx context.Context, p forge.Principal, h HookName) (forge.Hook, error)
	RemoveHook(ctx context.Context, p forge.Principal, h HookName) (forge.Hook, error)
	PauseHook(ctx context.Context, p forge.Principal, h HookName) (forge.Hook, error)
	ResumeHook(ctx context.Context, p forge.Principal, h HookName) (forge.Hook, error)
	// TestHook sends one event of the type hook.test at once, and says how it went. A failure is an answer and no error.
	TestHook(ctx context.Context, p forge.Principal, h HookName) (forge.HookDelivery, error)
	// HookDelivery finds a delivery by its id: how an earlier test went.
	HookDelivery(ctx context.Context, p forge.Principal, id string) (forge.HookDelivery, error)
	HookDeliveries(ctx context.Context, p forge.Principal, h HookName, q HookListing) (List[forge.HookDelivery], error)
	// RemovedHook finds also one that is removed.
	RemovedHook(ctx context.Context, p forge.Principal, id string) (forge.Hook, error)
}

// HookName says which hook, and whose.
type HookName struct {
	Hook string
	Site bool
}

// HookListing asks for a page of hooks or deliveries.
type HookListing struct {
	Listing
	Site  bool
	State forge.DeliveryState // of deliveries; empty: all
}

// CreateHookRequest makes a hook. Exactly one of URL, Command and Mail is given.
type CreateHookRequest struct {
	Name     string   `json:"name" maxLength:"64" doc:"1 to 64 characters of a-z, 0-9, '.', '-', '_'"`
	On       []string `json:"on" minItems:"1" maxItems:"64" doc:"Groups (stage, regression, run_end, hold, node, budget, schedule) or event types"`
	URL      string   `json:"url,omitempty" maxLength:"2048" doc:"Webhook: where events are posted to"`
	Command  string   `json:"command,omitempty" maxLength:"64" doc:"Name of a program in the site's configuration"`
	Mail     string   `json:"mail,omitempty" maxLength:"254" doc:"Address that mail goes to"`
	Match    string   `json:"match,omitempty" maxLength:"128" doc:"Pattern of the model's or run's name, * for any part; default all"`
	Failures bool     `json:"failures,omitempty" doc:"Not of runs that completed or were cancelled, nor of nodes that are well"`
	Site     bool     `json:"site,omitempty" doc:"For operators: a hook of the site, told of what concerns no tenant"`
}

// CreatedHook carries the secret that signs, this once.
type CreatedHook struct {
	forge.Hook
	Secret string `json:"secret,omitempty" doc:"Of a webhook: signs what is posted. Absent when a repeated request is answered: it was shown to the first"`
}

// HookBody is what a webhook posts and a program reads. It is the same at every try of a delivery.
type HookBody struct {
	ID     string      `json:"id" doc:"Of the delivery: the same at every try, so that a receiver can tell a repetition"`
	Hook   string      `json:"hook"`
	Tenant string      `json:"tenant,omitempty" doc:"Its name; absent for events of the site"`
	Text   string      `json:"text" doc:"One line for people"`
	Event  forge.Event `json:"event"`
}
