import java.io.FileInputStream;
import java.io.InputStream;
import java.util.Base64;
import java.util.List;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.GetSessionConnectionDataApi;
import org.openapitools.client.api.ServersApi;
import org.openapitools.client.api.SessionPermissionsApi;
import org.openapitools.client.api.SessionsApi;
import org.openapitools.client.model.*;

/**
 * What the developer guide shows, in the order of a session's life, with the generated Java client.
 *
 * This client reads strictly: a field that the definition does not list, or a wrong type, throws.
 * Arguments: address of the broker, CA file, access token, id of an idle Linux server.
 */
public class GuideExamples {
    private static final String UNKNOWN = "00000000-0000-4000-8000-000000000000";
    private static final String PERMISSIONS =
            Base64.getEncoder().encodeToString("[permissions]\n%owner% allow builtin\n".getBytes());

    private final SessionsApi sessions;
    private final ServersApi servers;
    private final SessionPermissionsApi permissions;
    private final GetSessionConnectionDataApi connections;

    private GuideExamples(ApiClient client) {
        sessions = new SessionsApi(client);
        servers = new ServersApi(client);
        permissions = new SessionPermissionsApi(client);
        connections = new GetSessionConnectionDataApi(client);
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = new ApiClient();
        client.setBasePath(arguments[0]);
        try (InputStream authority = new FileInputStream(arguments[1])) {
            client.setSslCaCert(authority);
        }
        client.addDefaultHeader("Authorization", "Bearer " + arguments[2]);
        readsStrictly();
        GuideExamples examples = new GuideExamples(client);
        examples.describeServers();
        String session = examples.createSessions(arguments[3]);
        examples.describeSessions(session);
        examples.updateSessionPermissions(session);
        examples.getSessionConnectionData(session);
        examples.getSessionScreenshots(session);
        examples.closeAndOpenServers(arguments[3]);
        examples.deleteSessions(session);
        System.out.println("all nine operations");
        System.exit(0); // its threads would keep the process for another minute
    }

    /** Shows that the judge is strict. */
    private static void readsStrictly() throws Exception {
        for (String text : List.of("{\"Sessions\":[{\"Color\":\"red\"}]}", "{\"Sessions\":{}}", "{\"Sessions\":[{\"Id\":{}}]}")) {
            try {
                DescribeSessionsResponse.fromJson(text);
            } catch (IllegalArgumentException | ClassCastException expected) {
                continue;
            }
            throw new AssertionError("read without complaint: " + text);
        }
    }

    private void describeServers() throws ApiException {
        DescribeServersResponse page = servers.describeServers(new DescribeServersRequestData().maxResults(2));
        check(page.getServers().size() == 2 && page.getNextToken() != null, page);
        DescribeServersResponse next =
                servers.describeServers(new DescribeServersRequestData().nextToken(page.getNextToken()));
        check(!next.getServers().isEmpty() && next.getNextToken() == null, next);
        check(!next.getServers().contains(page.getServers().get(0)), next);
        for (Server server : next.getServers()) {
            check(server.getHost().getCpuInfo().getNumberOfCpus() > 0, server);
            check(!server.getEndpoints().isEmpty() && server.getPort() != null, server);
        }
        check(servers.describeServers(null).getServers().size() > 2, page);
    }

    private String createSessions(String server) throws ApiException {
        CreateSessionRequestData wanted = new CreateSessionRequestData()
                .name("session2").owner("user1").type("VIRTUAL").autorunFile("myapp.sh")
                .maxConcurrentClients(1L).dcvGlEnabled(false)
                .requirements("server:Host.Os.Family = 'linux' and server:Id = '" + server + "'");
        CreateSessionRequestData refused = new CreateSessionRequestData()
                .name("session1").owner("user1").type("CONSOLE").maxConcurrentClients(1L)
                .permissionsFile(PERMISSIONS).storageRoot("/storage/root")
                .requirements("tag:os = 'nothing' and server:Host.Memory.TotalBytes > 1024");
        CreateSessionsResponse created = sessions.createSessions(List.of(wanted, refused));
        check(created.getSuccessfulList().size() == 1 && created.getUnsuccessfulList().size() == 1, created);
        check(created.getUnsuccessfulList().get(0).getCreateSessionRequestData().equals(refused), created);
        Session session = created.getSuccessfulList().get(0);
        check("CREATING".equals(session.getState().toString()), created);
        check(session.getCreationTime() != null, created);
        return session.getId();
    }

    private void describeSessions(String id) throws Exception {
        Session session = await(id, "READY");
        check(session.getServer().getIp() != null && session.getNumOfConnections() == 0L, session);
        DescribeSessionsRequestData owned = new DescribeSessionsRequestData()
                .filters(List.of(new KeyValuePair().key("owner").value("user1")));
        check(sessions.describeSessions(owned).getSessions().get(0).equals(session), session);
        check(sessions.describeSessions(null).getSessions().size() > 1, session);
    }

    private Session await(String id, String state) throws Exception {
        DescribeSessionsRequestData named = new DescribeSessionsRequestData().sessionIds(List.of(id));
        for (int attempt = 0; attempt < 600; attempt++) {
            Session session = sessions.describeSessions(named).getSessions().get(0);
            if (state.equals(session.getState().toString())) {
                return session;
            }
            Thread.sleep(50); // the API has no way to be told
        }
        throw new AssertionError("not " + state + " in time: " + id);
    }

    private void updateSessionPermissions(String id) throws ApiException {
        UpdateSessionPermissionsRequestData item = new UpdateSessionPermissionsRequestData()
                .sessionId(id).owner("user1").permissionsFile(PERMISSIONS);
        UpdateSessionPermissionsRequestData other = new UpdateSessionPermissionsRequestData()
                .sessionId(UNKNOWN).owner("user1").permissionsFile(PERMISSIONS);
        UpdateSessionPermissionsResponse updated = permissions.updateSessionPermissions(List.of(item, other));
        check(updated.getSuccessfulList().get(0).getSessionId().equals(id), updated);
        check(updated.getUnsuccessfulList().get(0).getSessionId().equals(UNKNOWN), updated);
    }

    private void getSessionConnectionData(String id) throws ApiException {
        GetSessionConnectionDataResponse data = connections.getSessionConnectionData(id, "user1");
        check(id.equals(data.getSession().getId()) && !data.getConnectionToken().isEmpty(), data);
        Server server = data.getSession().getServer();
        check(server.getIp() != null && server.getPort() != null && server.getWebUrlPath().startsWith("/"), data);
        try {
            connections.getSessionConnectionData(UNKNOWN, "user1");
        } catch (ApiException refused) {
            check(refused.getCode() == 400, refused);
            check(refused.getResponseBody().contains("Dcv session not found."), refused);
            return;
        }
        throw new AssertionError("connection data of an unknown session");
    }

    private void getSessionScreenshots(String id) throws ApiException {
        GetSessionScreenshotsResponse taken = sessions.getSessionScreenshots(List.of(
                new GetSessionScreenshotRequestData().sessionId(id).maxWidth(800L).maxHeight(600L),
                new GetSessionScreenshotRequestData().sessionId(UNKNOWN)));
        SessionScreenshotImage image =
                taken.getSuccessfulList().get(0).getSessionScreenshot().getImages().get(0);
        check(Base64.getDecoder().decode(image.getData()).length > 100 && image.getPrimary(), image);
        check(taken.getUnsuccessfulList().get(0).getFailureReason() != null, taken);
    }

    private void closeAndOpenServers(String id) throws ApiException {
        CloseServersResponse closed = servers.closeServers(List.of(
                new CloseServerRequestData().serverId(id), new CloseServerRequestData().serverId("nowhere")));
        check(closed.getSuccessfulList().isEmpty() && closed.getUnsuccessfulList().size() == 2, closed);
        check("DCV_SERVER_HAS_SESSIONS".equals(closed.getUnsuccessfulList().get(0).getFailureCode()), closed);
        closed = servers.closeServers(List.of(new CloseServerRequestData().serverId(id).force(true)));
        check(closed.getSuccessfulList().get(0).getServerId().equals(id), closed);
        OpenServersResponse opened = servers.openServers(List.of(
                new OpenServerRequestData().serverId(id), new OpenServerRequestData().serverId("nowhere")));
        check(opened.getSuccessfulList().get(0).getServerId().equals(id), opened);
        check("DCV_SERVER_NOT_FOUND".equals(opened.getUnsuccessfulList().get(0).getFailureCode()), opened);
    }

    private void deleteSessions(String id) throws Exception {
        DeleteSessionsResponse deleted = sessions.deleteSessions(List.of(
                new DeleteSessionRequestData().sessionId(id).owner("user1").force(false),
                new DeleteSessionRequestData().sessionId(UNKNOWN).owner("user99")));
        check("DELETING".equals(deleted.getSuccessfulList().get(0).getState().toString()), deleted);
        check(deleted.getUnsuccessfulList().get(0).getSessionId().equals(UNKNOWN), deleted);
        await(id, "DELETED");
    }

    private static void check(boolean holds, Object answer) {
        if (!holds) {
            throw new AssertionError("unexpected: " + answer);
        }
    }
}
