// SPDX-License-Identifier: Apache-2.0
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

/** Answers every HTTP request on the port of its first argument after about two milliseconds, head and body at once. */
class Answers {
    static final byte[] ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer\n".getBytes();

    static void serve(Socket socket) {
        try (socket) {
            BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            boolean last = false;

            for (String line; !last && (line = in.readLine()) != null;) {
                while (!line.isEmpty()) {
                    last |= line.equals("Connection: close");
                    line = in.readLine();
                    if (line == null)
                        return;
                }
                Thread.sleep(2);
                socket.getOutputStream().write(ANSWER);
            }
        } catch (IOException | InterruptedException e) {
            // The client went.
        }
    }

    public static void main(String[] arguments) throws IOException {
        try (ServerSocket server = new ServerSocket(Integer.parseInt(arguments[0]), 128, InetAddress.getLoopbackAddress())) {
            for (;;) {
                Socket socket = server.accept();

                socket.setTcpNoDelay(true);
                new Thread(() -> serve(socket)).start();
            }
        }
    }
}
