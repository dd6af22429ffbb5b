// Drops a workflow, or a video that carries one, on the canvas and reports in JSON what the frontend made of it.
//   node workflow.mjs URL FILE CHROMIUM OUT_FOLDER open|run|cancel
// "run" presses the Run button and waits for the end; "cancel" sets 900 steps, presses Run, then Cancel.
import path from 'node:path'
import { drop, graphReport, picture, visit } from './page.mjs'

const [url, file, executablePath, out, mode] = process.argv.slice(2)
const CANCEL_AFTER = 5 // steps

// What it showed of the run: evaluated in the page.
function runReport() {
  const { events, previews, asked } = window.seen
  const end = events.findLast((event) => event.name.startsWith('execution_'))
  const steps = events.filter((event) => event.name === 'progress' && event.data.max === 900)
  const gaps = steps.slice(1).map((step, index) => step.at - steps[index].at)
  const shown = [...document.querySelectorAll('video')]
  for (const node of window.app.graph.nodes) {
    for (const widget of node.widgets ?? []) shown.push(...(widget.element?.querySelectorAll?.('video') ?? []))
  }
  return {
    end, previews,
    late: steps.filter((step) => step.at > asked).length,
    seconds: { cancel: (end.at - asked) / 1000, step: Math.max(...gaps) / 1000 },
    videos: [...new Set(shown)].map((video) =>
      ({ width: video.videoWidth, height: video.videoHeight, seconds: video.duration, error: video.error?.message ?? null }))
  }
}

function listen() {
  const seen = (window.seen = { events: [], previews: 0, asked: null })
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted', 'progress']) {
    window.app.api.addEventListener(name, (event) => seen.events.push({ name, data: event.detail, at: performance.now() }))
  }
  const TEXT = 3 // of the protocol's binary messages; the others here are pictures
  window.app.api.socket.addEventListener('message', ({ data }) => {
    if (data instanceof ArrayBuffer && new DataView(data).getUint32(0) !== TEXT) seen.previews++
  })
}

function slowDown() {
  const node = window.app.graph.nodes.find((node) => node.type === 'FusionFrames_SampleKeyframes')
  node.widgets.find((widget) => widget.name === 'steps').value = 900
}

await visit(url, executablePath, async (page, report) => {
  await page.evaluate(listen)
  await drop(page, file)
  Object.assign(report, await page.evaluate(graphReport))
  await picture(page, path.join(out, 'opened.png'))
  if (mode === 'open') return
  if (mode === 'cancel') await page.evaluate(slowDown)
  await page.getByTestId('queue-button').click()
  if (mode === 'cancel') {
    const reached = (count) => window.seen.events.filter((event) => event.name === 'progress').length >= count
    await page.waitForFunction(reached, CANCEL_AFTER)
    await picture(page, path.join(out, 'running.png'))
    const button = page.getByRole('button', { name: 'Cancel current run' })
    // noted in the page at the moment of the click, after whatever the browser does to find the button
    await button.evaluate((element) => element.addEventListener('click', () => (window.seen.asked = performance.now()), { capture: true }))
    await button.click()
  }
  await page.waitForFunction(() => window.seen.events.some((event) => event.name.startsWith('execution_')), null, { timeout: 600000 })
  await page.waitForTimeout(2000) // for the video
  Object.assign(report, await page.evaluate(runReport))
  await picture(page, path.join(out, 'done.png'))
})
