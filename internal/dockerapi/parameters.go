// SPDX-License-Identifier: Apache-2.0

package dockerapi

import "byre.dev/byre/internal/engine/request"

// parameters has, for every operation that takes some, what happens to the
// parameters of its query. A parameter that is not here is ignored, as dockerd
// ignores what it does not know: clients put much into a query.
func parameters() map[string][]request.Rule {
	return map[string][]request.Rule{
		"GET /events":    takes("since", "until", "filters"),
		"GET /system/df": takes("type", "verbose"),

		"GET /containers/json":            takes("all", "limit", "size", "filters"),
		"POST /containers/create":         takes("name", "platform"),
		"POST /containers/prune":          takes("filters"),
		"GET /containers/{id}/json":       takes("size"),
		"GET /containers/{id}/top":        takes("ps_args"),
		"GET /containers/{id}/logs":       takes("follow", "stdout", "stderr", "since", "until", "timestamps", "tail", "details"),
		"GET /containers/{id}/stats":      takes("stream", "one-shot"),
		"GET /containers/{id}/archive":    takes("path"),
		"HEAD /containers/{id}/archive":   takes("path"),
		"PUT /containers/{id}/archive":    takes("path", "noOverwriteDirNonDir", "copyUIDGID"),
		"POST /containers/{id}/start":     startParameters(),
		"POST /containers/{id}/stop":      takes("signal", "t"),
		"POST /containers/{id}/restart":   takes("signal", "t"),
		"POST /containers/{id}/kill":      takes("signal"),
		"POST /containers/{id}/wait":      takes("condition"),
		"POST /containers/{id}/resize":    takes("h", "w"),
		"POST /containers/{id}/attach":    takes("detachKeys", "logs", "stream", "stdin", "stdout", "stderr"),
		"POST /containers/{id}/rename":    takes("name"),
		"DELETE /containers/{id}":         append(takes("v", "force"), refuses("link", "a link goes with the container that has it")),
		"POST /exec/{id}/resize":          takes("h", "w"),
		"POST /commit":                    takes("container", "repo", "tag", "comment", "author", "pause", "changes"),
		"GET /images/json":                imageListParameters(),
		"POST /images/create":             takes("fromImage", "fromSrc", "repo", "tag", "message", "changes", "platform"),
		"POST /images/load":               append(takes("platform"), needless("quiet", "nothing is shown but the names of what was loaded")),
		"POST /images/prune":              takes("filters"),
		"GET /images/get":                 takes("names", "platform"),
		"GET /images/{name}/get":          takes("platform"),
		"GET /images/{name}/json":         takes("manifests", "platform"),
		"GET /images/{name}/attestations": takes("platform", "type", "statement"),
		"GET /images/{name}/history":      takes("platform"),
		"POST /images/{name}/tag":         takes("repo", "tag"),
		"POST /images/{name}/push":        takes("tag", "platform"),
		"DELETE /images/{name}":           append(takes("force", "platforms"), needless("noprune", "an image goes alone: no parents without a name go with it")),
		"POST /build":                     request.BuildRules(),
		"POST /build/cancel":              takes("id"),
		"POST /build/prune":               takes("reserved-space", "keep-storage", "max-used-space", "min-free-space", "all", "filters"),
		"GET /volumes":                    takes("filters"),
		"POST /volumes/prune":             takes("filters"),
		"DELETE /volumes/{name}":          takes("force"),
		"GET /networks":                   takes("filters"),
		"POST /networks/prune":            takes("filters"),
		"GET /networks/{id}":              append(takes("scope"), needless("verbose", "it adds the services of a swarm, of which there is none")),
		"GET /plugins":                    {needless("filters", "there are no plugins to be told apart")},
	}
}

func startParameters() []request.Rule {
	noCheckpoints := "there are no checkpoints of machines"
	return []request.Rule{
		needless("detachKeys", "the request to attach has them; dockerd does not read them here either"),
		refuses("checkpoint", noCheckpoints), refuses("checkpoint-dir", noCheckpoints),
	}
}

func imageListParameters() []request.Rule {
	return append(takes("filters", "filter", "shared-size", "manifests"),
		needless("all", "there are no intermediate images that a shorter list would hide"),
		needless("digests", "digests are always given"),
		needless("identity", "signatures are not looked at: of no image is there anything to tell"),
	)
}

func takes(names ...string) []request.Rule {
	rules := make([]request.Rule, len(names))
	for i, name := range names {
		rules[i] = request.Rule{Field: name, Verdict: request.Honored}
	}
	return rules
}

func needless(name, why string) request.Rule {
	return request.Rule{Field: name, Verdict: request.Harmless, Why: why}
}

func refuses(name, why string) request.Rule {
	return request.Rule{Field: name, Verdict: request.Refused, Why: why}
}
