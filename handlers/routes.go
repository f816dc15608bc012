package handlers

import (
	"github.com/gofiber/fiber/v2"

	"hookbridge/app/bridge"
	"hookbridge/handlers/contract"
)

const (
	pathEvents   = "/webhooks/events"
	pathBatch    = "/webhooks/events/batch"
	pathAPI      = "/v1"
	pathStream   = "/v1/stream"
	pathSends    = "/v1/sends"
	pathRequests = "/v1/requests"
	pathMetrics  = "/metrics"
)

// routes is the table of all that is served.
func (s *Server) routes() {
	r := s.app
	r.Use(s.catchPanics)

	// Backends, which sign.
	r.Post(pathEvents, s.webhook)
	r.Post(pathBatch, s.webhook)

	// Users, with a token.
	r.Get("/ws", s.limitConnects, s.socket, s.upgrade())
	r.Use(pathAPI, s.cors, s.noTokenInURL)
	r.Post("/v1/tickets", s.limitConnects, s.ticket)
	r.Get(pathStream, s.limitConnects, s.stream)
	r.Get("/v1/poll", s.limitConnects, s.poll)
	r.Post("/v1/acks", s.limitCalls(ackWeight, s.acks))
	r.Post(pathSends, s.limitCalls(toBackendWeight, s.send))
	r.Post(pathRequests, s.limitCalls(toBackendWeight, s.request))

	// Operators, with a token that names the area.
	on := func(add func(path string, handlers ...fiber.Handler) fiber.Router, path, area string, do operation) {
		add(path, s.operators(area, do))
	}
	on(r.Head, "/v1/users/:id/presence", bridge.AreaPresence, s.isPresent)
	on(r.Get, "/v1/users/:id/presence", bridge.AreaPresence, s.presenceOf)
	on(r.Post, "/v1/presence", bridge.AreaPresence, s.presenceOfMany)
	on(r.Get, "/v1/users/:id/sessions", bridge.AreaSessions, s.listSessions)
	on(r.Delete, "/v1/users/:id/sessions", bridge.AreaSessions, s.disconnect)
	on(r.Delete, "/v1/users/:id/sessions/:session", bridge.AreaSessions, s.disconnect)
	on(r.Post, "/v1/users/:id/revocations", bridge.AreaSessions, s.revoke)
	on(r.Get, "/v1/users/:id/export", bridge.AreaUsers, s.export)
	on(r.Delete, "/v1/users/:id", bridge.AreaUsers, s.erase)
	on(r.Get, "/v1/events/:id", bridge.AreaEvents, s.event)
	on(r.Delete, "/v1/events/:id", bridge.AreaEvents, s.recall)
	on(r.Get, "/v1/groups/:group/members", bridge.AreaGroups, s.members)
	on(r.Put, "/v1/groups/:group/members/:id", bridge.AreaGroups, s.setMember(true))
	on(r.Delete, "/v1/groups/:group/members/:id", bridge.AreaGroups, s.setMember(false))
	on(r.Get, "/v1/callbacks", bridge.AreaCallbacks, s.callbacks)
	on(r.Get, "/v1/callbacks/:name/dead", bridge.AreaCallbacks, s.deadCallbacks)
	on(r.Post, "/v1/callbacks/:name/redrive", bridge.AreaCallbacks, s.redrive)

	// Anybody.
	r.Get("/livez", s.livez)
	r.Get("/readyz", s.readyz)
	if !s.o.HideMetrics {
		r.Get(pathMetrics, s.metrics())
	}
	r.Get("/openapi.json", s.contract(contract.OpenAPI))
	r.Get("/asyncapi.json", s.contract(contract.AsyncAPI))
	s.assetRoutes(r)
	if s.o.Demo != nil {
		r.Post("/demo/tokens", demoHost, s.demoToken)
		r.Post("/demo/patients", demoHost, s.demoPatient)
		r.Post("/demo/announcements", demoHost, s.demoAnnouncement)
		r.Get("/demo/callbacks", demoHost, s.demoCallbacks)
	}
}
