// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-f1518d44/balance/cmd/balancectl/terminal"
)

// runCompletion writes what a shell completes from: one script, which bash and zsh both take.
func runCompletion(_ context.Context, args []string, s streams) (status int, err error) {
	if len(args) != 1 || !slices.Contains([]string{"bash", "zsh"}, args[0]) {
		return 0, fmt.Errorf("found %q: want bash or zsh", args)
	}
	s.printf("#compdef balancectl\n[ -z \"${ZSH_VERSION-}\" ] || { autoload -U +X bashcompinit && bashcompinit; }\n")
	s.printf("_balancectl() {\n  local word=${COMP_WORDS[COMP_CWORD]} words=\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words=%q\n  else case ${COMP_WORDS[1]} in\n", strings.Join(commandNames(), " "))
	for _, c := range commands() {
		if flags := flagsOf(c); len(flags) > 0 {
			s.printf("    %s) words=%q ;;\n", c.name, strings.Join(flags, " "))
		}
	}
	s.printf("    completion) words=\"bash zsh\" ;;\n  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n" +
		"complete -o default -F _balancectl balancectl\n")
	return exitDone, nil
}

var flagLine = regexp.MustCompile(`(?m)^  (-[a-z-]+)`)

// flagsOf returns the flags that a command's help lists.
func flagsOf(c command) (flags []string) {
	if c.name == "completion" {
		return nil
	}
	var help bytes.Buffer
	_, _ = c.run(context.Background(), []string{"-h"}, streams{&help, io.Discard, terminal.Screen{}})
	for _, m := range flagLine.FindAllStringSubmatch(help.String(), -1) {
		flags = append(flags, m[1])
	}
	return flags
}
