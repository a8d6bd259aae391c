// SPDX-License-Identifier: Apache-2.0

package terminal

import "testing"

func TestIsUTF8(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "C.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8"}, true},
		{map[string]string{"LANG": "C.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{}, false},
	} {
		if got := isUTF8(func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("with %v UTF-8 is %v, want %v", tc.env, got, tc.want)
		}
	}
}
