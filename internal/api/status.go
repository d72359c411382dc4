package api

import (
	"net/http"

	forge "github.com/forge-ml/forge-ml"
)

// statuses is the one table from kinds to HTTP. Each status belongs to one kind, so that a
// client that sees only the status (a proxy ate the body) still knows how to react.
var statuses = map[forge.Kind]int{
	forge.KindInvalid:      http.StatusUnprocessableEntity,
	forge.KindUnauthorized: http.StatusUnauthorized,
	forge.KindForbidden:    http.StatusForbidden,
	forge.KindNotFound:     http.StatusNotFound,
	forge.KindConflict:     http.StatusConflict,
	forge.KindPrecondition: http.StatusPreconditionFailed,
	forge.KindUnavailable:  http.StatusServiceUnavailable,
	forge.KindInternal:     http.StatusInternalServerError,
}

// StatusOf gives the HTTP status of a kind; an unknown kind is our fault.
func StatusOf(k forge.Kind) int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// KindOfStatus gives the kind that a status stands for. Statuses outside the table are those
// that HTTP itself produces: other 4xx blame the request, gateways mean that nobody answered.
func KindOfStatus(status int) forge.Kind {
	for k, s := range statuses {
		if s == status {
			return k
		}
	}
	switch {
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout, status == http.StatusTooManyRequests:
		return forge.KindUnavailable
	case status >= 400 && status < 500:
		return forge.KindInvalid
	}
	return forge.KindInternal
}
