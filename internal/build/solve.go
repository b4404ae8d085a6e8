// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
)

// What exporters are called; moby is dockerd's own name for its image store.
const (
	exporterMoby  = "moby"
	exporterImage = "image"
	exporterOCI   = "oci"
)

// solve has the builder solve. What is to be exported to the image store is
// there, and named, when it returns.
func (s *Service) solve(ctx context.Context, builder *grpc.ClientConn, req *controlapi.SolveRequest) (*controlapi.SolveResponse, error) {
	client := controlapi.NewControlClient(builder)
	preferLocal(req)
	if err := withGateway(ctx, client, req); err != nil {
		return nil, err
	}
	names, stored, err := toStore(req)
	if err != nil {
		return nil, err
	}
	if req.Session == "" {
		if stored {
			return nil, errdefs.ErrInvalidArgument.WithMessage("an image is exported through a session, and the build names none")
		}
		return client.Solve(ctx, req)
	}
	se, err := s.session(ctx, req.Session)
	if err != nil {
		return nil, err
	}
	if !stored {
		return client.Solve(ctx, req)
	}
	ingest, release, err := se.export(ctx, s.cfg.Images)
	if err != nil {
		return nil, err
	}
	resp, err := client.Solve(ctx, req)
	if err == nil {
		err = keep(ctx, ingest, resp, names)
	}
	if release := release(); release != nil {
		s.log.Warn("build's lease not released", "err", release)
	}
	return resp, err
}

// preferLocal lets a base image be one of the image store's: dockerd's
// meaning of a build that does not say.
func preferLocal(req *controlapi.SolveRequest) {
	if req.Frontend == "" {
		return // the client runs it, and decides
	}
	if req.FrontendAttrs == nil {
		req.FrontendAttrs = map[string]string{}
	}
	if mode := req.FrontendAttrs["image-resolve-mode"]; mode == "" || mode == "default" {
		req.FrontendAttrs["image-resolve-mode"] = "local"
	}
}

// toStore turns exporters of the image store into an export to the session's
// content store, and returns the image's names. An image that is pushed
// as well is exported twice. stored is false when there is none.
func toStore(req *controlapi.SolveRequest) (names []reference.Named, stored bool, err error) {
	if len(req.Exporters) == 0 && req.ExporterDeprecated != "" {
		req.Exporters = []*controlapi.Exporter{{Type: req.ExporterDeprecated, Attrs: req.ExporterAttrsDeprecated}}
	}
	req.ExporterDeprecated, req.ExporterAttrsDeprecated = "", nil
	clients := false
	for i, ex := range req.Exporters {
		if ex == nil {
			return nil, false, errdefs.ErrInvalidArgument.WithMessage("an exporter is missing")
		}
		clients = clients || (ex.Type == exporterOCI || ex.Type == "docker") && ex.Attrs["tar"] == "false"
		if ex.Type != exporterMoby && ex.Type != exporterImage {
			continue
		}
		store, push, err := destinations(ex)
		if err != nil {
			return nil, false, err
		}
		if push {
			also := &controlapi.Exporter{Type: exporterImage, Attrs: pushAttrs(ex.Attrs)}
			if !store {
				req.Exporters[i] = also
				continue
			}
			// After the client's: it knows its exporters by their places.
			req.Exporters = append(req.Exporters, also)
		}
		if stored {
			return nil, false, errdefs.ErrInvalidArgument.WithMessage("a build exports to the image store once: give one output with all names")
		}
		stored = true
		if names, err = parseNames(ex.Attrs[string(exptypes.OptKeyName)]); err != nil {
			return nil, false, err
		}
		req.Exporters[i] = &controlapi.Exporter{Type: exporterOCI, Attrs: storeAttrs(ex.Attrs, names)}
	}
	if stored && clients {
		return nil, false, errdefs.ErrInvalidArgument.WithMessage("byre does not support an output of type oci or docker with tar=false beside the image store: build twice")
	}
	return names, stored, nil
}

// destinations says where an image goes.
func destinations(ex *controlapi.Exporter) (store, push bool, err error) {
	store = true
	for name, dst := range map[exptypes.ImageExporterOptKey]*bool{exptypes.OptKeyPush: &push, exptypes.OptKeyStore: &store} {
		v, ok := ex.Attrs[string(name)]
		if !ok {
			continue
		}
		if *dst = v == ""; v == "" {
			continue
		}
		if *dst, err = strconv.ParseBool(v); err != nil {
			return false, false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("output %s=%q is neither true nor false", name, v))
		}
	}
	return store || !push, push, nil
}

// pushAttrs are those of an image that the builder pushes; it has no store.
func pushAttrs(attrs map[string]string) map[string]string {
	out := maps.Clone(attrs)
	for _, k := range []exptypes.ImageExporterOptKey{
		exptypes.OptKeyStore, exptypes.OptKeyUnpack, exptypes.OptKeyDanglingPrefix, exptypes.OptKeyDanglingEmptyOnly,
	} {
		delete(out, string(k))
	}
	if _, ok := out[string(exptypes.OptKeyOCITypes)]; !ok {
		out[string(exptypes.OptKeyOCITypes)] = "true" // as the one that is stored
	}
	return out
}

// storeAttrs are those of an image that goes to the store. Its layers are not
// compressed on the way, for they are unpacked here, unless the image is pushed
// too or the user wants it otherwise. What is pushed too is the same image in
// both places, with the attestations that exporters of images put beside it.
func storeAttrs(attrs map[string]string, names []reference.Named) map[string]string {
	out := maps.Clone(attrs)
	if out == nil {
		out = map[string]string{}
	}
	_, push, _ := destinations(&controlapi.Exporter{Attrs: attrs}) // toStore has read them
	for _, k := range []exptypes.ImageExporterOptKey{
		exptypes.OptKeyStore, exptypes.OptKeyUnpack, exptypes.OptKeyDanglingPrefix, exptypes.OptKeyDanglingEmptyOnly,
		exptypes.OptKeyPush, exptypes.OptKeyPushByDigest, exptypes.OptKeyInsecure, exptypes.OptKeyNameCanonical,
	} {
		delete(out, string(k))
	}
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = n.String()
	}
	delete(out, string(exptypes.OptKeyName))
	if len(all) > 0 {
		out[string(exptypes.OptKeyName)] = strings.Join(all, ",")
	}
	out["tar"] = "false"
	if _, ok := out[string(exptypes.OptKeyForceInlineAttestations)]; !ok && push {
		out[string(exptypes.OptKeyForceInlineAttestations)] = "true"
	}
	if _, ok := out["compression"]; !ok && !push {
		out["compression"] = "uncompressed"
	}
	return out
}

// maxNames bounds an image's names.
const maxNames = 256

// parseNames reads names divided by commas; each stays once.
func parseNames(s string) ([]reference.Named, error) {
	var names []reference.Named
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		named, err := parseTag(part)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(n reference.Named) bool { return n.String() == named.String() }) {
			names = append(names, named)
		}
	}
	if len(names) > maxNames {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("an image is given at most %d names", maxNames))
	}
	return names, nil
}

func parseTag(s string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid tag %q: %v", s, err))
	}
	if _, ok := named.(reference.Canonical); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid tag %q: refusing to create a tag with a digest reference", s))
	}
	return reference.TagNameOnly(named), nil
}

// ingester keeps what came.
type ingester interface {
	Keep(ctx context.Context, target ocispec.Descriptor, names []reference.Named) error
}

// keep names the image that the builder says it exported.
func keep(ctx context.Context, in ingester, resp *controlapi.SolveResponse, names []reference.Named) error {
	desc, err := exported(resp.ExporterResponse)
	if err != nil {
		return err
	}
	if err := in.Keep(ctx, desc, names); err != nil {
		return fmt.Errorf("store the image: %w", err)
	}
	return nil
}

// exported reads which image the builder exported.
func exported(resp map[string]string) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	raw, err := base64.StdEncoding.DecodeString(resp[exptypes.ExporterImageDescriptorKey])
	if err == nil {
		err = json.Unmarshal(raw, &desc)
	}
	if err == nil {
		err = desc.Digest.Validate()
	}
	if err == nil && desc.Size <= 0 {
		err = errors.New("it has no size")
	}
	if err != nil {
		return desc, fmt.Errorf("the builder does not say which image it exported: %w", err)
	}
	return desc, nil
}
