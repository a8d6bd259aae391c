// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/seed-f1518d44/balance/internal/statuspage"
)

// runWhy is "balancectl why".
func runWhy(ctx context.Context, args []string, s streams) (status int, err error) {
	flags := newFlags("why", "[flags] NAME [TYPE] [from CLIENT] [at PAGE]", "Shows the answer that a client would get now, and the reason of every step.\n"+
		"TYPE is A, and CLIENT 127.0.0.1, unless given. Asking takes no turn.\n"+
		"Exit status: 0 if a rule answers, 1 if none has the name, 2 if the page cannot be asked.", s)
	at := flags.atFlag()
	asJSON := flags.Bool("json", false, "write the page's JSON document")
	words, err := flags.words(args)
	if err != nil {
		return 0, err
	}
	question, where, err := parseWhy(words)
	if err != nil {
		return 0, err
	}
	*at = append(*at, where...)
	for i, one := range at.all() {
		if !*asJSON {
			s.printf("%s", at.all().heading(i))
		}
		answered, problem := ask(ctx, one, question, *asJSON, s)
		status, err = max(status, answered), errors.Join(err, problem)
	}
	return status, err
}

// ask asks a page.
func ask(ctx context.Context, at page, question url.Values, asJSON bool, s streams) (status int, err error) {
	raw, err := fetch(ctx, at.url(statuspage.WhyPath)+"?"+question.Encode())
	if err != nil {
		return exitFailure, err
	}
	why := new(statuspage.Why)
	if err := json.Unmarshal(raw, why); err != nil {
		return exitFailure, fmt.Errorf("%s: %w", at, err)
	}
	if len(why.Answers) == 0 {
		status = exitNot
	}
	if asJSON {
		_, err = s.out.Write(append(bytes.TrimSpace(raw), '\n'))
		return status, err
	}
	return status, why.WriteText(s.out)
}

// parseWhy reads "NAME [TYPE] [from CLIENT] [at PAGE]".
func parseWhy(words []string) (question url.Values, at pages, err error) {
	question = url.Values{}
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case (word == "from" || word == "at") && i > 0:
			if i++; i == len(words) {
				return nil, nil, fmt.Errorf("found nothing behind %q: want from CLIENT, at PAGE", word)
			}
			if word == "at" {
				at = append(at, page(words[i]))
			} else {
				question.Set("client", words[i])
			}
		case !question.Has("name"):
			question.Set("name", word)
		case !question.Has("type"):
			question.Set("type", word)
		default:
			return nil, nil, fmt.Errorf("found %q: want NAME [TYPE] [from CLIENT] [at PAGE]", word)
		}
	}
	if !question.Has("name") {
		return nil, nil, errors.New("found no name: want NAME [TYPE] [from CLIENT] [at PAGE]")
	}
	return question, at, nil
}
