// SPDX-License-Identifier: Apache-2.0

// Looks up a name so many times with getaddrinfo, any family, and prints a line of addresses for each.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	for (int n = atoi(argv[2]); n > 0; n--) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
		int failed = getaddrinfo(argv[1], "80", &hints, &all);
		if (failed) {
			fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(failed));
			return 1;
		}
		for (struct addrinfo *a = all; a; a = a->ai_next) {
			char text[INET6_ADDRSTRLEN];
			void *from = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
							     : (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
			printf("%s ", inet_ntop(a->ai_family, from, text, sizeof text));
		}
		puts("");
		freeaddrinfo(all);
	}
	return 0;
}
