// SPDX-License-Identifier: Apache-2.0

package balance

import clog "github.com/coredns/coredns/plugin/pkg/log"

// pluginName is the directive's name, and the plugin's in plugin.cfg, logs and metrics.
const pluginName = "balance"

var log = clog.NewWithPlugin(pluginName)
