// SPDX-License-Identifier: Apache-2.0

import java.net.InetAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.stream.Collectors;

/** Arguments: lookup, connection, client or policy; a name or a URL; how many times. Prints a line of addresses for each. */
public class Look {
    public static void main(String[] args) throws Exception {
        for (int n = Integer.parseInt(args[2]); n > 0; n--) {
            System.out.println(once(args[0], args[1]));
        }
    }

    static String once(String way, String what) throws Exception {
        switch (way) {
            case "lookup":
                return Arrays.stream(InetAddress.getAllByName(what)).map(InetAddress::getHostAddress).collect(Collectors.joining(" "));
            case "connection":
                try (var in = new URI(what).toURL().openStream()) {
                    return new String(in.readAllBytes()).trim();
                }
            case "client":
                var request = HttpRequest.newBuilder(new URI(what)).build();
                return HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body().trim();
            case "policy":
                return String.valueOf(sun.net.InetAddressCachePolicy.get());
            default:
                throw new IllegalArgumentException(way);
        }
    }
}
