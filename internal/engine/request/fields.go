// SPDX-License-Identifier: Apache-2.0

package request

import (
	"iter"
	"reflect"
	"strings"
)

// Fields yields the fields of a struct under their JSON names; those of
// embedded structs count as the struct's own.
func Fields(v reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Anonymous {
				inner := v.Field(i)
				if inner.Kind() == reflect.Pointer {
					if inner.IsNil() {
						continue
					}
					inner = inner.Elem()
				}
				for name, value := range Fields(inner) {
					if !yield(name, value) {
						return
					}
				}
				continue
			}
			if f.IsExported() && !yield(jsonName(f), v.Field(i)) {
				return
			}
		}
	}
}

// Names returns the JSON names of a struct type's fields.
func Names(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			names = append(names, Names(inner)...)
			continue
		}
		if f.IsExported() {
			names = append(names, jsonName(f))
		}
	}
	return names
}

// fieldOf finds the field of a struct type that JSON of that name is read into.
func fieldOf(t reflect.Type, name string) (field reflect.StructField, ok bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if found, in := fieldOf(inner, name); in {
				field, ok = found, true
			}
			continue
		}
		if f.IsExported() && strings.EqualFold(jsonName(f), name) {
			return f, true
		}
	}
	return field, ok
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

// empty says whether a value is what a client sends that asks for nothing:
// zero, a list or map without elements, or a pointer to such.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || empty(v.Elem())
	}
	return v.IsZero()
}
