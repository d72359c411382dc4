// Package apitest holds api.Services in memory: what the tests of the server, the client and
// forgectl stand on. It keeps the error contract of services.go (another tenant's and absent
// are the same not_found) and does no work: runs change only when a test says so.
package apitest
