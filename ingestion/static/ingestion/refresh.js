"use strict";

// Replaces the page's content with news until the server no longer asks for it. Needs no inline code, so that a strict
// Content-Security-Policy may stand.
{
    const content = (page) => page.getElementById("content-main");
    const seconds = (page) => Number(page.querySelector("[data-refresh-seconds]")?.dataset.refreshSeconds ?? 0);

    const refresh = async () => {
        if (!document.hidden) {
            const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
            if (answer.redirected || answer.status === 403 || answer.status === 404) {
                window.location.reload(); // logged out, or the page is gone: the server says so itself
                return;
            }
            if (answer.ok) {
                const news = new DOMParser().parseFromString(await answer.text(), "text/html");
                content(document).replaceWith(document.adoptNode(content(news)));
            }
        }
        wait();
    };

    const wait = () => {
        if (seconds(document)) {
            window.setTimeout(() => refresh().catch(wait), seconds(document) * 1000);
        }
    };

    wait();
}
